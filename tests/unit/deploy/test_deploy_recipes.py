"""The recipes of deploy/ say what the Procfile and the settings say."""

import configparser
import re
import shlex

import pytest
import yaml

from cli.supervisor import procfile
from config import settings
from config.environment import ROOT, parse_dotenv
from pipeline.metrics.catalogue import METRICS, PREFIX

DEPLOY = ROOT / "deploy"
PROCFILE = procfile(ROOT / "Procfile")
NAMED = re.compile(r"^#?([A-Z][A-Z_]+)=")


def ini(*paths):
    """Read files of sections; `=` alone divides, and a `%` is a `%`."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=", inline_comment_prefixes=None)
    parser.optionxform = str
    assert parser.read(paths) == [str(path) for path in paths]
    return parser


def unit(stage):
    return ini(
        DEPLOY / "systemd" / "voicemill-.service.d" / "common.conf", DEPLOY / f"systemd/voicemill-{stage}@.service"
    )


def words(command):
    return shlex.split(command.replace("/opt/voicemill/.venv/bin/", ""))


GRACE = settings.Settings.model_fields["shutdown_timeout"].default  # seconds that what is at work may take to end


@pytest.mark.parametrize("stage", PROCFILE)
def test_systemd_and_supervisord_run_the_procfiles_command_and_wait_for_its_end(stage):
    supervised = ini(DEPLOY / "supervisor" / "voicemill.conf")

    assert words(unit(stage)["Service"]["ExecStart"]) == PROCFILE[stage]
    assert words(supervised[f"program:{stage}"]["command"]) == PROCFILE[stage]
    assert float(unit(stage)["Service"]["TimeoutStopSec"]) > GRACE + 10
    assert float(supervised[f"program:{stage}"]["stopwaitsecs"]) > GRACE + 10
    assert stage in supervised["group:voicemill"]["programs"].split(",")


@pytest.mark.parametrize("stage", PROCFILE)
def test_only_the_master_is_signalled_since_a_second_signal_would_kill_what_is_at_work(stage):
    supervised = ini(DEPLOY / "supervisor" / "voicemill.conf")

    assert unit(stage)["Service"]["KillMode"] == "mixed"
    assert "stopasgroup" not in supervised[f"program:{stage}"]


@pytest.mark.parametrize("stage", PROCFILE)
def test_the_user_without_a_home_is_given_one_to_keep_models_in(stage):
    supervised = ini(DEPLOY / "supervisor" / "voicemill.conf")

    assert 'HOME="/var/cache/voicemill"' in supervised[f"program:{stage}"]["environment"].split(",")
    assert "HOME=%C/voicemill" in ini(DEPLOY / "systemd" / "voicemill-.service.d" / "common.conf")["Service"][
        "Environment"
    ].split(" ")


@pytest.mark.parametrize("stage", PROCFILE)
def test_supervisord_does_not_give_a_worker_up_while_its_redis_refuses_it_for_a_while(stage):
    program = ini(DEPLOY / "supervisor" / "voicemill.conf")[f"program:{stage}"]
    tries = int(program["startretries"])

    assert program["autorestart"] == "true"
    assert sum(range(tries)) > 3600  # seconds: each try comes a second later after the last


@pytest.mark.parametrize("stage", PROCFILE)
def test_a_reload_under_systemd_is_the_signal_on_which_a_master_replaces_its_worker(stage):
    assert unit(stage)["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_nothing_that_hides_devices_or_forbids_made_code_holds_for_the_gpu_stage():
    service = unit("transcribe")["Service"]

    hides = ("PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute", "ProcSubset")
    assert not [name for name in hides if name in service]
    assert unit("decode")["Service"]["PrivateDevices"] == "yes"


def test_the_environment_file_names_settings_alone_in_a_form_that_systemd_and_we_read_alike(monkeypatch):
    lines = (DEPLOY / "environment").read_text().splitlines()
    values = parse_dotenv("\n".join(lines))

    named = [match[1] for match in map(NAMED.match, lines) if match]
    assert {name.lower() for name in named} <= set(settings.Settings.model_fields)
    plain = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert plain == values
    assert not [value for value in plain.values() if re.search(r"[\s\"'#\\]", value)]
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert settings.get().redis_url.get_secret_value().startswith("rediss://")


def test_the_scaled_object_is_yaml_with_no_field_that_keda_does_not_document():
    told = yaml.safe_load((DEPLOY / "autoscale" / "keda-transcribe.yaml").read_text())

    assert (told["apiVersion"], told["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = told["spec"]
    assert set(spec) <= {
        "scaleTargetRef", "pollingInterval", "cooldownPeriod", "idleReplicaCount", "minReplicaCount", "maxReplicaCount",
        "fallback", "advanced", "triggers",
    }  # fmt: skip
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    for direction in ("scaleUp", "scaleDown"):
        assert set(behaviour[direction]) == {"stabilizationWindowSeconds", "policies"}
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "Value")
    assert set(trigger["metadata"]) <= {
        "serverAddress",
        "query",
        "threshold",
        "activationThreshold",
        "ignoreNullValues",
    }
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert METRICS["queue_oldest_seconds"].labels == ("queue",)
    assert PREFIX + 'queue_oldest_seconds{queue="transcribe"}' in trigger["metadata"]["query"]
