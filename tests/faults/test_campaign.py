"""The short form of `make faults`: a job killed three times at random moments ends as if nobody had touched it."""

import pytest

from tests.faults import summary
from tests.faults.campaign import Campaign


@pytest.mark.slow
def test_random_kills(tmp_path, capsys):
    campaign = Campaign(tmp_path, kills=3, seed=207)
    jobs = campaign.run()
    found = summary.of(jobs)
    with capsys.disabled():
        summary.show(found)
    assert [job["result"] for job in jobs] == ["same"] * len(jobs)
    assert found["kills"] == 3
    assert Campaign(tmp_path, kills=3, seed=207).run() == jobs, "a finished campaign is not done again"
