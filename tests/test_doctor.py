import re
import subprocess
import sys
from pathlib import Path

import pytest

from c2al import doctor

ROOT = Path(__file__).parents[1]
TORCH_VERSION = {"cpu": "cuda: Optional[str] = None\n", "cuda": "cuda: Optional[str] = '13.0'\n"}
SET = {"torch": "2.13.0", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}


def install(site: Path, name: str, version: str, build: str = "cpu") -> None:
    """What pip leaves of a package and the doctor looks at."""
    files = {}
    if name == "torch":
        files = {"torch/version.py": f"__version__ = {version!r}\ndebug = False\n{TORCH_VERSION[build]}"}
    elif name.startswith("fbgemm"):
        files = {
            "fbgemm_gpu/docs/target.default.json.py": f'{{\n    "target": "default",\n    "variant": "{build}"\n}}\n',
            "fbgemm_gpu/fbgemm_gpu_py.so": "",
        }
    information = site / f"{name.replace('-', '_')}-{version}.dist-info"
    files[f"{information.name}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{information.name}/RECORD"] = "".join(f"{file},,\n" for file in files)
    for file, text in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)


def set_of(site: Path) -> dict[str, doctor.Finding]:
    return {finding.topic: finding for finding in doctor.check_set(doctor.installed([str(site)]))}


def wrong(findings: dict[str, doctor.Finding]) -> set[str]:
    return {topic for topic, finding in findings.items() if finding.problem}


@pytest.mark.parametrize(("torch", "pair"), [("2.13.0+cpu", "1.8.0"), ("2.12.1", "1.7.0"), ("2.11.0", "1.6.0")])
def test_known_pairs_fit(tmp_path, torch, pair):
    for name, version in {"torch": torch, "torchrec": pair, "fbgemm-gpu-cpu": pair}.items():
        install(tmp_path, name, version)
    assert wrong(set_of(tmp_path)) == set()


def test_a_pair_of_another_torch_names_the_right_versions(tmp_path):
    for name in SET:
        install(tmp_path, name, "2.12.0" if name == "torch" else SET[name])
    found = set_of(tmp_path)
    assert wrong(found) == {"torchrec", "fbgemm"}
    assert found["torchrec"].remedy.endswith("install --no-deps torchrec==1.7.0")
    assert "uninstall -y fbgemm-gpu fbgemm-gpu-cpu" in found["fbgemm"].remedy
    assert found["fbgemm"].remedy.endswith("fbgemm-gpu-cpu==1.7.0")


def test_torch_without_a_known_pair_keeps_its_build(tmp_path):
    install(tmp_path, "torch", "2.10.0", build="cuda")
    assert set_of(tmp_path)["torch"].remedy.endswith("install torch==2.13.0")
    install(tmp_path, "torch", "2.10.0", build="cpu")
    assert "torch==2.13.0+cpu" in set_of(tmp_path)["torch"].remedy


def test_missing_parts(tmp_path):
    assert wrong(set_of(tmp_path)) == {"torch"}
    install(tmp_path, "torch", "2.13.0+cpu")
    found = set_of(tmp_path)
    assert wrong(found) == {"torchrec", "fbgemm"}
    assert "--no-deps" in found["torchrec"].remedy  # its dependency would bring the CUDA build
    assert found["fbgemm"].remedy.endswith("fbgemm-gpu-cpu==1.8.0")


def test_both_builds_of_fbgemm(tmp_path):
    for name in SET:
        install(tmp_path, name, SET[name])
    install(tmp_path, "fbgemm-gpu", "1.8.0", build="cuda")
    found = set_of(tmp_path)
    assert wrong(found) == {"fbgemm"}
    assert "two builds" in found["fbgemm"].problem


@pytest.mark.parametrize(
    ("build", "other", "wanted"), [("cuda", "fbgemm-gpu-cpu", "fbgemm-gpu"), ("cpu", "fbgemm-gpu", "fbgemm-gpu-cpu")]
)
def test_builds_must_agree(tmp_path, build, other, wanted):
    install(tmp_path, "torch", "2.13.0", build=build)
    install(tmp_path, "torchrec", "1.8.0")
    install(tmp_path, other, "1.8.0", build="cpu" if build == "cuda" else "cuda")
    found = set_of(tmp_path)
    assert wrong(found) == {"fbgemm"}
    assert found["fbgemm"].remedy.endswith(f" {wanted}==1.8.0")


def test_libraries_lost_to_the_uninstallation_of_the_other_build(tmp_path):
    for name in SET:
        install(tmp_path, name, SET[name])
    (tmp_path / "fbgemm_gpu/fbgemm_gpu_py.so").unlink()
    found = set_of(tmp_path)["fbgemm"]
    assert found.problem.startswith("1 of its libraries")
    assert "--force-reinstall fbgemm-gpu-cpu==1.8.0" in found.remedy


def test_other_packages(tmp_path):
    for need in doctor.NEEDS.split():
        name, _, version = need.replace(">=", "==").partition("==")
        install(tmp_path, name.replace("-", "_"), version or "0.1")
    assert [finding.topic for finding in doctor.check_packages(doctor.installed([str(tmp_path)]))] == ["packages"]
    for name in ("torchmetrics-1.0.3", "hydra_core-1.3.2", "pyre_extensions-0.1"):
        (tmp_path / f"{name}.dist-info/METADATA").unlink()
        (tmp_path / f"{name}.dist-info/RECORD").unlink()
        (tmp_path / f"{name}.dist-info").rmdir()
    install(tmp_path, "torchmetrics", "1.4.0")
    install(tmp_path, "hydra-core", "1.2.0")
    found = {finding.topic: finding for finding in doctor.check_packages(doctor.installed([str(tmp_path)]))}
    assert set(found) == {"torchmetrics", "hydra-core", "pyre-extensions"}
    assert found["torchmetrics"].remedy.endswith("install 'torchmetrics==1.0.3'")
    assert (found["hydra-core"].found, found["pyre-extensions"].found) == ("1.2.0", "missing")


def test_needs_are_those_of_setup():
    text = (ROOT / "setup.py").read_text()
    required = re.findall(r'"(.+)",', text[text.index("REQUIRES = [") : text.index("EXTRAS = ")])
    assert {name.split(",")[0] for name in required if not name.startswith("torch>")} == set(doctor.NEEDS.split())


def test_locks_hold_a_pair():
    for file in ("cpu.txt", "cuda.txt"):
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        pins = dict(line.lower().replace("_", "-").split("==") for line in lines if line and not line.startswith("#"))
        pair = doctor.PAIRS[".".join(pins["torch"].split(".")[:2])]
        assert pins["torchrec"] == pins["fbgemm-gpu-cpu" if file == "cpu.txt" else "fbgemm-gpu"] == pair
        assert ("fbgemm-gpu" in pins) != ("fbgemm-gpu-cpu" in pins)
        assert pins["torchmetrics"] == "1.0.3"


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 10, 9), False), ((3, 11, 0), True), ((3, 13, 2), True), ((3, 14, 0), False)]
)
def test_python(version, fits):
    assert (doctor.check_python(version).problem == "") is fits


TORCH_PASSED = (
    f"print('{doctor.SAYS}" + '{"step": "numpy"}' + f"\\n{doctor.SAYS}"
    '{"step": "torch", "cuda": null, "gpus": [], "threads": 2, "backends": ["gloo"]}'
    "', flush=True)\n"
)
PACKAGES = {"torch": doctor.Package("2.13.0+cpu", "cpu"), "fbgemm-gpu-cpu": doctor.Package("1.8.0", "cpu")}


@pytest.mark.parametrize(
    ("ends", "error", "limit_s"),
    [
        (
            "raise OSError('fbgemm_gpu_py.so: undefined symbol: _ZN3c104')",
            "OSError: fbgemm_gpu_py.so: undefined symbol: _ZN3c104",
            900.0,
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11", 900.0),
        ("import time; time.sleep(3000)", "no answer after 15 s", 15.0),  # in which Python must have started
    ],
)
def test_an_import_that_dies_is_a_finding(ends, error, limit_s):
    found = {
        finding.topic: finding
        for finding in doctor.check_imports(doctor.run_probe(limit_s, TORCH_PASSED + ends), PACKAGES)
    }
    assert found["imports"].found == "fbgemm_gpu fails"
    assert found["imports"].problem == error
    assert found["imports"].remedy.endswith("--force-reinstall --no-deps fbgemm-gpu-cpu==1.8.0")
    assert found["processes"].found == "gloo; 2 threads in torch"  # what came before the crash is kept


def test_a_missing_module_is_named():
    probe = doctor.Probe({}, "ModuleNotFoundError: No module named 'typing_inspect'")
    assert doctor.check_imports(probe, {})[0].remedy.endswith("pip install typing-inspect")


def test_report_shows_remedies_and_its_status(capsys):
    findings = [doctor.Finding("torch", "2.13.0"), doctor.Finding("disk", "1 GiB", note="little")]
    assert doctor.report(findings) == 0
    assert "everything fits" in capsys.readouterr().out
    line = "pip install --no-deps [x]torchrec==1.8.0 " + "and a tail that is longer than a terminal " * 4
    assert doctor.report([*findings, doctor.Finding("torchrec", "missing", "needed", remedy=line)]) == 1
    shown = capsys.readouterr().out
    assert line in shown  # in one piece, to be pasted
    assert "1 thing(s) to fix" in shown


def test_this_environment_fits_and_is_not_imported_here():
    code = (
        "import sys; from c2al import doctor; status = doctor.report(doctor.check()); "
        "assert not {'torch', 'fbgemm_gpu', 'torchrec'} & set(sys.modules); sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
