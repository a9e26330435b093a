"""Settings: which of option, variable, files and default holds, and where it is from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config import SHARED, Configuration
from bridge.errors import UsageError

COMMAND = Path(sys.executable).with_name("ic-bridge")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in a project, and the user's own folder, both without settings."""
    for name in list(os.environ):
        if name.startswith("IC_BRIDGE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    folder = tmp_path / "project" / "src"
    folder.mkdir(parents=True)
    (tmp_path / "user" / "ic-bridge").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return tmp_path


def project_says(place, text):
    file = place / "project" / "bridge.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def user_says(place, text):
    file = place / "user" / "ic-bridge" / "config.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def ic_bridge(*arguments, code=0):
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def shown():
    told = json.loads(ic_bridge("config", "show", "--json"))
    return {name: (row["value"], row["origin"]) for name, row in told.items()}


def test_each_origin_is_stronger_than_the_next(place, monkeypatch) -> None:
    user = user_says(
        place, 'network = "icp"\n[replica.start]\nport = 1\nadmin = true\nfees = true\n'
    )
    project = project_says(place, '[replica.start]\nport = 2\nadmin = false\nstate-dir = "here"\n')
    monkeypatch.setenv("IC_BRIDGE_REPLICA_START_PORT", "3")
    found = shown()
    assert found["replica.start.port"] == (3, "IC_BRIDGE_REPLICA_START_PORT")
    assert found["replica.start.admin"] == (False, project)
    assert found["replica.start.state_dir"] == ("here", project)
    assert found["replica.start.fees"] == (True, user)
    assert found["replica.start.background"] == (False, "default")
    assert found["network"] == ("icp", user)
    assert found["conformance.network"] == ("icp", user)  # an option of a shared setting's name
    assert set(SHARED) <= set(found)
    rows = [line.split() for line in ic_bridge("config", "show").splitlines()]
    assert ["replica.start.port", "3", "IC_BRIDGE_REPLICA_START_PORT"] in rows
    assert ["identity", "-", "default"] in rows


def test_a_command_takes_its_settings_and_an_option_is_stronger(place, monkeypatch) -> None:
    def values(*options):
        return ic_bridge("candid", "random", "--types", "(nat64, nat64)", *options)

    by_option = {seed: values("--seed", seed) for seed in ("1", "2", "3")}
    assert len(set(by_option.values())) == 3
    project_says(place, "[candid.random]\nseed = 1\n")
    assert values() == by_option["1"]
    monkeypatch.setenv("IC_BRIDGE_CANDID_RANDOM_SEED", "2")
    assert values() == by_option["2"]
    assert values("--seed", "3") == by_option["3"]


def test_a_program_that_starts_the_command_gets_what_it_asks_for(place, monkeypatch) -> None:
    project_says(place, '[replica.start]\nport = "nonsense"\n')
    monkeypatch.setenv("IC_BRIDGE_REPLICA_START_PORT", "nonsense")
    command = [sys.executable, "-m", "bridge.cli", "replica", "start", "--until-eof"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        process.stdin.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("netwrk = 'ic'", "no setting 'netwrk'\n  did you mean 'network'?"),
        ("network = 5", "network is not text but 5"),
        ("network = ", "cannot be read"),
        ("replica = 5", "replica is a table, not 5"),
        (
            "[replica.start]\nprot = 1",
            "[replica.start]: there is no setting 'prot'\n  did you mean",
        ),
        ("[replica.begin]\nport = 1", "[replica]: there is no setting 'begin'"),
        ("[replica.start]\nport = 'x'", "replica.start.port: 'x' is not"),
        ("[replica.start]\nport = 70000", "replica.start.port: 70000 is not in the range"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told_with_its_file(place, text, said) -> None:
    file = project_says(place, text + "\n")
    told = ic_bridge("replica", "status", code=2)
    assert file in told
    assert said in told
    assert "Traceback" not in told


def test_the_nearest_project_file_is_read_and_no_other(place) -> None:
    project_says(place, 'network = "dfx"\n')
    nearer = place / "project" / "src" / "bridge.toml"
    nearer.write_text('identity = "me.pem"\n')
    (place / "project" / "src" / "me.pem").touch()
    settings = Configuration.load()
    assert settings.paths == [nearer]
    assert settings.shared("network").value == "embedded"
    # A file that a setting names is looked for beside the file that names it.
    assert settings.shared("identity").value == str(nearer.with_name("me.pem"))
    assert Configuration.load(place / "project").shared("network").value == "dfx"


def test_an_unknown_name_without_a_likeness_names_those_that_are_known(place) -> None:
    project_says(place, "zzz = 1\n")
    assert "known are candid, config, conformance" in ic_bridge("config", "show", code=2)


def test_who_asks_for_help_gets_it_whatever_the_files_say(place) -> None:
    project_says(place, "[[")
    assert "Commands:" in ic_bridge("--help")
    assert "--receiver" in ic_bridge("conformance", "--help")
    assert "version" in ic_bridge("--version")


def test_a_variable_that_nothing_reads_is_told_with_the_one_that_is_near(place, monkeypatch):
    def told(*arguments):
        done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=True)
        return done.stderr

    monkeypatch.setenv("IC_BRIDGE_CANDID_RANDOM_SEDE", "1")
    said = "nothing reads the variable IC_BRIDGE_CANDID_RANDOM_SEDE; did you mean "
    assert f"{said}IC_BRIDGE_CANDID_RANDOM_SEED?" in told("candid", "hash", "x")
    assert said in told("config", "show")
    assert told("--help") == ""
    monkeypatch.delenv("IC_BRIDGE_CANDID_RANDOM_SEDE")
    monkeypatch.setenv("IC_BRIDGE_NETWROK", "ic")
    assert "IC_BRIDGE_NETWROK; did you mean IC_BRIDGE_NETWORK?" in told("candid", "hash", "x")
    monkeypatch.delenv("IC_BRIDGE_NETWROK")
    monkeypatch.setenv("IC_BRIDGE_DEMO", "1")
    assert "IC_BRIDGE_DEMO; ic-bridge config show lists settings" in told("candid", "hash", "x")
    monkeypatch.delenv("IC_BRIDGE_DEMO")
    monkeypatch.setenv("IC_BRIDGE_NETWORK", "ic")
    monkeypatch.setenv("IC_BRIDGE_CANDID_RANDOM_SEED", "1")
    assert told("candid", "hash", "x") == ""


def test_a_shell_that_completes_hears_no_complaints(place, monkeypatch) -> None:
    project_says(place, "zzz = 1\n")
    monkeypatch.setenv("_IC_BRIDGE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "ic-bridge conf")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert ic_bridge().split() == ["plain,config", "plain,conformance"]
    monkeypatch.setenv("_IC_BRIDGE_COMPLETE", "zsh_source")
    assert "compdef" in ic_bridge()


def test_a_shared_setting_is_told_by_its_variable(place, monkeypatch) -> None:
    monkeypatch.setenv("IC_BRIDGE_ROOT_KEY", "ab")
    setting = Configuration.load().shared("root_key")
    assert (setting.value, setting.origin) == ("ab", "IC_BRIDGE_ROOT_KEY")
    user_says(place, "root_key = 5\n")
    monkeypatch.delenv("IC_BRIDGE_ROOT_KEY")
    with pytest.raises(UsageError, match=r"config\.toml: root_key is not text"):
        Configuration.load().shared("root_key")
