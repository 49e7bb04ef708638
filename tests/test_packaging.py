"""conf/ and launch/ lie beside c2al/ and must be found as c2al.conf and c2al.launch, installed in either way."""

import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest

import c2al

ROOT = Path(__file__).parents[1]


def test_installed_for_editing():
    assert metadata.version("c2al") == c2al.__version__
    assert (resources.files("c2al.conf") / "config.yaml").is_file()
    (script,) = metadata.entry_points(group="console_scripts", name="c2al")
    assert script.value == "c2al.__main__:main"


@pytest.mark.slow
def test_wheel_holds_code_configs_and_launch(tmp_path):
    for name in ("c2al", "conf", "launch"):
        shutil.copytree(ROOT / name, tmp_path / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, "."]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("c2al-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {str(file.relative_to(ROOT)) for file in (ROOT / "c2al").rglob("*.py")}
    for folder in ("conf", "launch"):
        files = (file for file in (ROOT / folder).rglob("*") if file.is_file() and file.suffix not in {".pyc"})
        expected |= {f"c2al/{file.relative_to(ROOT)}" for file in files}
    assert inside == expected
