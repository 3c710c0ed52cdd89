"""The end of ``make lock``: packages.yaml gets the versions of requirements.lock."""

import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf


def write_packages(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imgpipe.commands.lock"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_versions_are_those_locked_and_all_else_stays(tmp_path: Path) -> None:
    """Also one that YAML would take for a number, and one that is locked for another Python."""
    lines = ["zebra==1.2.3", "ant==2.10 \\\n    --hash=sha256:00", "ant==9 ; python_full_version < '3'", "other==4"]
    (tmp_path / "requirements.lock").write_text("\n".join(lines) + "\n")
    packages = tmp_path / "packages.yaml"
    packages.write_text("# what for\nzebra: 0.1.0  # stripes\nant: 1.0.0\n")
    done = write_packages(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert OmegaConf.load(packages) == {"zebra": "1.2.3", "ant": "2.10"}
    assert packages.read_text() == "# what for\nzebra: 1.2.3  # stripes\nant: '2.10'\n"


def test_a_package_that_is_not_locked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("ant==1.0.0\n")
    (tmp_path / "packages.yaml").write_text("ant: 0.1.0\nbee: 1.0.0\n")
    done = write_packages(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: packages.yaml names bee, which requirements.lock has not; take it out there\n"
    assert (tmp_path / "packages.yaml").read_text() == "ant: 0.1.0\nbee: 1.0.0\n"
