"""Run folders to findings: density of attention, significance, studies, reports."""
