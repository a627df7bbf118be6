"""Configuration: which layer wins, what is refused and how, what stays out of rows, what commands inherit."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codexdb.config.budget import TurnBudget
from codexdb.config.files import (
    CONFIG_BYTES_MAX,
    OVERRIDE_DEPTH_MAX,
    OVERRIDES_BYTES_MAX,
    OVERRIDES_MAX,
    codex_home,
    read_config,
    separate,
    with_overrides,
)
from codexdb.config.provider import WireApi
from codexdb.config.resolve import EnvironmentPolicy, Request, Resolved, reopen, resolve
from codexdb.config.schema import Config, Inherit
from codexdb.config.source import UNKNOWN_KEYS_NAMED_MAX, ConfigSource
from codexdb.domain.errors import CredentialsMissingError, InvalidConfigError
from codexdb.domain.json import JsonObject, decode_object, encode
from codexdb.domain.limits import SHELL_TIMEOUT_MS
from codexdb.domain.session import ApprovalPolicy, SandboxMode

SERVER_CWD = Path("/server/cwd")
MOCK = {"name": "Mock", "base_url": "http://127.0.0.1:1/v1"}


def settle(
    home: Path,
    *,
    environ: Mapping[str, str] | None = None,
    base: JsonObject | None = None,
    **request: Any,
) -> Resolved:
    """Settle a request that gives these fields."""
    return resolve(Request(**request), home=home, environ=environ or {}, server_cwd=SERVER_CWD, base_overrides=base)


def refusal(home: Path, **request: Any) -> str:
    with pytest.raises(InvalidConfigError) as caught:
        settle(home, **request)
    assert caught.value.__cause__ is None or "pydantic" not in type(caught.value.__cause__).__module__
    return caught.value.message


def write(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text)


# -- the layers ------------------------------------------------------------------------------------------------------


def test_without_any_file_the_defaults_hold(tmp_path: Path) -> None:
    resolved = settle(tmp_path / "absent")
    settings = resolved.settings
    assert (settings.model, settings.model_provider, settings.cwd) == ("gpt-5", "openai", str(SERVER_CWD))
    assert (settings.approval_policy, settings.sandbox_mode) == (ApprovalPolicy.UNTRUSTED, SandboxMode.READ_ONLY)
    assert (settings.network_access, settings.include_plan_tool, settings.profile) == (False, False, None)
    assert resolved.reasoning == {"effort": "medium", "summary": "auto"}
    assert (resolved.unknown_keys, resolved.secrets, settings.withheld) == ((), {}, ())


LAYERS = 'model = "file"\nprofile = "p"\n[profiles.p]\n[profiles.q]\nmodel = "profile"\n'


@pytest.mark.parametrize(
    ("request_", "base", "model"),
    [
        ({}, {}, "file"),
        ({}, {"model": "server"}, "server"),
        ({"config": {"model": "caller"}}, {"model": "server"}, "caller"),
        ({"config": {"model": "caller"}, "profile": "q"}, {"model": "server"}, "profile"),
        ({"config": {"model": "caller", "profile": "q"}}, {}, "profile"),
        ({"profile": "p"}, {"profile": "q"}, "file"),
        ({}, {"profile": "q"}, "profile"),
        ({"config": {"profiles.q.model": "caller"}, "profile": "q"}, {}, "caller"),
        ({"config": {"profiles.q.model": "caller"}, "profile": "q", "model": "argument"}, {}, "argument"),
        ({"config": {"profiles": {"p": {"model": "whole"}}}}, {}, "whole"),
        ({"config": {"profiles.p": {}}}, {"profiles.p.model": "replaced"}, "file"),
        ({"config": {"profiles.p.model": "inside"}}, {"profiles.p": {"model": "outside"}}, "inside"),
    ],
)
def test_a_higher_layer_wins(home: Path, request_: dict[str, Any], base: JsonObject, model: str) -> None:
    """Also that a profile beats an override of the same key, unless the override names the profile's key."""
    write(home, LAYERS)
    assert settle(home, base=base, **request_).settings.model == model


def test_every_key_of_a_profile_beats_the_top_level(home: Path) -> None:
    write(
        home,
        'approval_policy = "never"\nsandbox_mode = "danger-full-access"\nmodel_provider = "openai"\n'
        'model_reasoning_effort = "low"\nmodel_reasoning_summary = "none"\n'
        '[profiles.p]\napproval_policy = "on-request"\nsandbox_mode = "workspace-write"\nmodel_provider = "oss"\n'
        'model_reasoning_effort = "high"\nmodel_reasoning_summary = "detailed"\n',
    )
    resolved = settle(home, profile="p")
    settings = resolved.settings
    assert (settings.approval_policy, settings.sandbox_mode) == (
        ApprovalPolicy.ON_REQUEST,
        SandboxMode.WORKSPACE_WRITE,
    )
    assert (settings.model_provider, settings.profile) == ("oss", "p")
    assert resolved.reasoning == {"effort": "high", "summary": "detailed"}
    plain = settle(home)
    assert plain.settings.sandbox_mode is SandboxMode.DANGER_FULL_ACCESS
    assert plain.reasoning == {"effort": "low"}


def test_typed_arguments_beat_everything(home: Path) -> None:
    write(home, 'compact_prompt = "from file"\n[profiles.p]\nmodel = "x"\napproval_policy = "never"\n')
    settings = settle(
        home,
        model="m",
        profile="p",
        cwd="/w",
        approval_policy="on-failure",
        sandbox="danger-full-access",
        base_instructions="base",
        developer_instructions="developer",
        compact_prompt="compact",
        include_plan_tool=True,
    ).settings
    assert (settings.model, settings.cwd, settings.approval_policy) == ("m", "/w", ApprovalPolicy.ON_FAILURE)
    assert (settings.sandbox_mode, settings.network_access) == (SandboxMode.DANGER_FULL_ACCESS, True)
    assert (settings.base_instructions, settings.developer_instructions) == ("base", "developer")
    assert (settings.compact_prompt, settings.include_plan_tool) == ("compact", True)
    assert settle(home).settings.compact_prompt == "from file"


@pytest.mark.parametrize(
    ("given", "cwd"),
    [
        (None, "/server/cwd"),
        ("", "/server/cwd"),
        ("/no/such", "/no/such"),
        (".", "/server/cwd/."),
        ("a/../b", "/server/cwd/a/../b"),
    ],
)
def test_a_relative_cwd_is_joined_to_the_servers_and_need_not_exist(home: Path, given: str | None, cwd: str) -> None:
    assert settle(home, cwd=given).settings.cwd == cwd


@pytest.mark.parametrize(
    ("mode", "network"), [("read-only", False), ("workspace-write", True), ("danger-full-access", True)]
)
def test_network_access_follows_the_sandbox(home: Path, mode: str, network: bool) -> None:
    write(home, '[sandbox_workspace_write]\nnetwork_access = true\nwritable_roots = ["/data", "out"]\n')
    resolved = settle(home, sandbox=mode, cwd="/w")
    assert resolved.settings.network_access is network
    assert resolved.workspace.writable_roots == ("/data", "/w/out")


def test_every_key_has_a_default_that_changes_nothing(home: Path) -> None:
    resolved = settle(home, model="unheard-of")
    assert (resolved.verbosity, resolved.context_window, resolved.max_output_tokens) == (None, None, None)
    assert (resolved.shell_timeout_ms, resolved.budget) == (SHELL_TIMEOUT_MS, TurnBudget())
    assert (resolved.notify, resolved.user_instructions) == ((), None)


def test_the_keys_of_a_turn_reach_it_also_after_a_restart(home: Path) -> None:
    write(
        home,
        'model_verbosity = "low"\nmodel_max_output_tokens = 9\nmodel_context_window = 99\nnotify = ["bell", "-n"]\n'
        "disable_response_storage = true\nshell_timeout_ms = 7\n[turn_budget]\nrequests = 3\nseconds = 60\n"
        '[profiles.p]\nmodel_verbosity = "high"\ndisable_response_storage = false\nchatgpt_base_url = "http://x"\n',
    )
    first = settle(home)
    for resolved in (first, reopen(first.settings, None, home=home, environ={})):
        assert (resolved.verbosity, resolved.max_output_tokens, resolved.context_window) == ("low", 9, 99)
        assert (resolved.notify, resolved.shell_timeout_ms) == (("bell", "-n"), 7)
        assert resolved.budget == TurnBudget(requests=3, tokens=None, seconds=60)
        assert resolved.unknown_keys == ()
    assert settle(home, profile="p").verbosity == "high"
    assert settle(home, config={"turn_budget.tokens": 5}).budget == TurnBudget(3, 5, 60)
    assert settle(home, config={"turn_budget": {"tokens": 5}}).budget == TurnBudget(None, 5, None)


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("gpt-5", 272_000),
        ("gpt-5-mini-2025-08-07", 272_000),
        ("gpt-5.1-codex", 272_000),
        ("gpt-5-chat-latest", 128_000),
        ("gpt-4.1-nano", 1_000_000),
        ("o3", 200_000),
        ("o4-mini-2025-04-16", 200_000),
        ("o1-mini", 128_000),
        ("codex-mini-latest", 200_000),
        ("gpt-50", None),
        ("my-gpt-5", None),
        ("o3x", None),
        ("gpt-4", None),
    ],
)
def test_the_context_window_of_a_known_model_need_not_be_configured(home: Path, model: str, window: int | None) -> None:
    assert settle(home, model=model).context_window == window
    assert settle(home, model=model, config={"model_context_window": 5}).context_window == 5


# -- overrides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "tree"),
    [
        ({"a": 1}, {"a": 1, "t": {"x": {"y": 1}, "z": 2}}),
        ({"t.x.y": 5}, {"t": {"x": {"y": 5}, "z": 2}}),
        ({"t.z.new": 5}, {"t": {"x": {"y": 1}, "z": {"new": 5}}}),
        ({"t": {"only": True}}, {"t": {"only": True}}),
        ({"t.n": None, "t.l": [None, {"a": None}]}, {"t": {"x": {"y": 1}, "z": 2, "n": "", "l": ["", {"a": ""}]}}),
        ({"t.x.y": 5, "t.x": {"q": 1}}, {"t": {"x": {"q": 1, "y": 5}, "z": 2}}),
        ({"a..b": 1}, {"a": {"": {"b": 1}}, "t": {"x": {"y": 1}, "z": 2}}),
    ],
)
def test_overrides_are_written_at_their_dotted_path(overrides: JsonObject, tree: JsonObject) -> None:
    original: JsonObject = {"t": {"x": {"y": 1}, "z": 2}}
    assert with_overrides(original, overrides) == tree
    assert original == {"t": {"x": {"y": 1}, "z": 2}}


def test_a_stronger_override_of_a_table_leaves_nothing_of_weaker_ones_inside(home: Path) -> None:
    settings = settle(home, base={"history.a": 1, "history.b": 2, "model": "m"}, config={"history": {"c": 3}}).settings
    assert settings.overrides == {"history": {"c": 3}, "model": "m"}


def test_too_many_too_deep_or_too_large_overrides_are_refused(home: Path) -> None:
    assert "more than" in refusal(home, config={f"x{n}": 1 for n in range(OVERRIDES_MAX + 1)})
    assert "deeper than" in refusal(home, config={"a." * OVERRIDE_DEPTH_MAX + "a": 1})
    assert "larger than" in refusal(home, config={"x": "y" * OVERRIDES_BYTES_MAX})
    assert settle(home, config={"a." * (OVERRIDE_DEPTH_MAX - 1) + "a": 1})


def test_unknown_keys_are_ignored_and_named(home: Path) -> None:
    write(home, "sandbox_mod = 1\n[tui]\nx = 1\n[profiles.p]\nmodle = 1\n[shell_environment_policy]\nsets = {}\n")
    unknown = settle(home, config={"model_providers.m": {**MOCK, "wire-api": "chat"}}).unknown_keys
    assert sorted(unknown) == [
        "model_providers.m.wire-api",
        "profiles.p.modle",
        "sandbox_mod",
        "shell_environment_policy.sets",
    ]


def test_unknown_keys_are_told_once_for_each_state_of_the_file(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = ConfigSource(home, SERVER_CWD, environ={})
    write(home, "modle = 1\n")
    for _ in range(3):
        settings = source.resolve(Request()).settings
        source.reopen(settings, None)
        source.resolve(Request(config={"model": "m"}))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "`modle`" in caplog.text
    assert str(home / "config.toml") in caplog.text
    source.resolve(Request(config={"turn_budget.request": 5, "line\nbreak": "s3cr3t"}))
    assert [record.getMessage().count("\n") for record in caplog.records] == [0, 0]
    assert "`turn_budget.request`" in caplog.text
    assert "s3cr3t" not in caplog.text
    write(home, "modle = 1 # as before\n")
    source.resolve(Request())
    write(home, "")
    source.resolve(Request())
    assert len(caplog.records) == 3
    source.resolve(Request(config={f"key{n}": 1 for n in range(UNKNOWN_KEYS_NAMED_MAX + 5)}))
    assert "and 5 more" in caplog.records[-1].getMessage()


# -- refusals --------------------------------------------------------------------------------------------------------

POLICIES = "expected one of `untrusted`, `on-failure`, `on-request`, `never`"
MODES = "expected one of `read-only`, `workspace-write`, `danger-full-access`"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"sandbox_mode": "zzz"}, f"unknown variant `zzz`, {MODES}\nin `sandbox_mode`\n"),
        (
            {"approval_policy": "zzz"},
            f"unknown variant `zzz`, {POLICIES}\nin `approval_policy`\n",
        ),
        ({"model": 5}, "invalid type: integer `5`, expected a string\nin `model`\n"),
        ({"model_providers": 5}, "invalid type: integer `5`, expected a map\nin `model_providers`\n"),
        ({"model_providers.m": {}}, "missing field `name`\nin `model_providers.m`\n"),
        (
            {"model_providers.m": {"name": "m", "wire_api": "soap"}},
            "unknown variant `soap`, expected `chat` or `responses`\nin `model_providers.m.wire_api`\n",
        ),
        (
            {"sandbox_workspace_write.network_access": "yes"},
            'invalid type: string "yes", expected a boolean\nin `sandbox_workspace_write.network_access`\n',
        ),
        (
            {"shell_environment_policy.exclude": ["A", 5]},
            "invalid type: integer `5`, expected a string\nin `shell_environment_policy.exclude[1]`\n",
        ),
        ({"profiles.p.model": False}, "invalid type: boolean `false`, expected a string\nin `profiles.p.model`\n"),
        (
            {"model_context_window": -1},
            "invalid value: integer `-1`, expected a number of at least 0\nin `model_context_window`\n",
        ),
        (
            {"model_verbosity": "loud"},
            "unknown variant `loud`, expected one of `low`, `medium`, `high`\nin `model_verbosity`\n",
        ),
        (
            {"profiles.p.model_verbosity": 5},
            "invalid type: integer `5`, expected string or map\nin `profiles.p.model_verbosity`\n",
        ),
        (
            {"model_max_output_tokens": 0},
            "invalid value: integer `0`, expected a number of at least 1\nin `model_max_output_tokens`\n",
        ),
        (
            {"disable_response_storage": "no"},
            'invalid type: string "no", expected a boolean\nin `disable_response_storage`\n',
        ),
        (
            {"project_doc_max_bytes": -1},
            "invalid value: integer `-1`, expected a number of at least 0\nin `project_doc_max_bytes`\n",
        ),
        (
            {"project_doc_fallback_filenames": "README.md"},
            'invalid type: string "README.md", expected a sequence\nin `project_doc_fallback_filenames`\n',
        ),
        (
            {"project_doc_fallback_filenames": ["x"] * 33},
            "invalid value: sequence, expected a length of at most 32\nin `project_doc_fallback_filenames`\n",
        ),
        ({"notify": "bell"}, 'invalid type: string "bell", expected a sequence\nin `notify`\n'),
        ({"notify": ["bell", 5]}, "invalid type: integer `5`, expected a string\nin `notify[1]`\n"),
        (
            {"shell_timeout_ms": 0},
            "invalid value: integer `0`, expected a number of at least 1\nin `shell_timeout_ms`\n",
        ),
        (
            {"shell_timeout_ms": 3_600_001},
            "invalid value: integer `3600001`, expected a number of at most 3600000\nin `shell_timeout_ms`\n",
        ),
        ({"turn_budget": 5}, "invalid type: integer `5`, expected a map\nin `turn_budget`\n"),
        (
            {"turn_budget.requests": 0},
            "invalid value: integer `0`, expected a number of at least 1\nin `turn_budget.requests`\n",
        ),
        (
            {"turn_budget.tokens": True},
            "invalid type: boolean `true`, expected an integer\nin `turn_budget.tokens`\n",
        ),
        (
            {"turn_budget.seconds": 1.5},
            "invalid type: floating point `1.5`, expected an integer\nin `turn_budget.seconds`\n",
        ),
        ({"model_provider": "nope"}, "Model provider `nope` not found"),
        ({"profile": "nope"}, "config profile `nope` not found"),
    ],
)
def test_a_bad_override_is_refused_in_the_originals_words(home: Path, config: JsonObject, text: str) -> None:
    assert refusal(home, config=config) == text
    assert refusal(home, base=config) == text


@pytest.mark.parametrize("name", ["", ".", "..", "docs/agents.md", "/etc/passwd", "a\0b"])
def test_a_fallback_for_agents_md_is_a_name_and_no_path(home: Path, name: str) -> None:
    told = "invalid value, expected the name of a file, without a directory\nin `project_doc_fallback_filenames[1]`\n"
    assert refusal(home, config={"project_doc_fallback_filenames": ["OK.md", name]}) == told


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ('model_verbosity = "loud"', "model_verbosity", "`low`, `medium`, `high`"),
        ('model_max_output_tokens = "many"', "model_max_output_tokens", "an integer"),
        ("disable_response_storage = 1", "disable_response_storage", "a boolean"),
        ("project_doc_max_bytes = 1.5", "project_doc_max_bytes", "an integer"),
        ("project_doc_fallback_filenames = [1]", "project_doc_fallback_filenames[0]", "a string"),
        ("notify = true", "notify", "a sequence"),
        ("shell_timeout_ms = -1", "shell_timeout_ms", "at least 1"),
        ("[turn_budget]\ntokens = -1", "turn_budget.tokens", "at least 1"),
        ("[profiles.p]\nchatgpt_base_url = 1", "profiles.p.chatgpt_base_url", "a string"),
    ],
)
def test_a_bad_value_of_the_file_is_refused_with_file_key_and_what_is_allowed(
    home: Path, text: str, key: str, allowed: str
) -> None:
    write(home, text)
    message = refusal(home)
    assert message.endswith(f"in `{key}` of {home / 'config.toml'}\n")
    assert allowed in message


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"profile": "nope"}, "config profile `nope` not found"),
        ({"sandbox": "zzz"}, f"unknown variant `zzz`, {MODES}"),
        (
            {"approval_policy": "zzz"},
            f"unknown variant `zzz`, {POLICIES}",
        ),
    ],
)
def test_a_bad_argument_is_refused(home: Path, request_: dict[str, Any], text: str) -> None:
    assert refusal(home, **request_) == text


def test_a_bad_value_of_the_file_is_refused_with_the_files_name(home: Path) -> None:
    write(home, 'sandbox_mode = "zzz"\n')
    path = home / "config.toml"
    assert refusal(home) == f"unknown variant `zzz`, {MODES}\nin `sandbox_mode` of {path}\n"
    assert refusal(home, config={"model": "m"}).endswith(f"of {path}\n")
    assert settle(home, config={"sandbox_mode": "read-only"}).settings.sandbox_mode is SandboxMode.READ_ONLY


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = ", "Invalid value"),
        (b"\xff", "utf-8"),
        (b"#" * (CONFIG_BYTES_MAX + 1), "larger than"),
        (b"a = " + b"[" * 100_000, ""),
    ],
)
def test_a_file_that_cannot_be_parsed_is_refused_with_its_name(home: Path, content: bytes, reason: str) -> None:
    (home / "config.toml").write_bytes(content)
    message = refusal(home)
    assert message.startswith(f"cannot read {home / 'config.toml'}: ")
    assert reason in message


def test_a_config_that_is_no_regular_file_is_refused_at_once(home: Path) -> None:
    os.mkfifo(home / "config.toml")
    assert refusal(home) == f"cannot read {home / 'config.toml'}: not a regular file"


def test_a_secret_of_the_wrong_type_is_not_quoted(home: Path) -> None:
    text = refusal(home, config={"model_providers.m": {**MOCK, "http_headers": "Bearer s3cr3t"}})
    assert text == "invalid type: string, expected a map\nin `model_providers.m.http_headers`\n"
    write(home, '[model_providers.m]\nname = "m"\nexperimental_bearer_token = 1234567\n')
    assert "1234567" not in refusal(home)
    assert "s3cr3t" not in refusal(home, config={"notify": "curl -H 'Authorization: Bearer s3cr3t' host"})


# -- the home --------------------------------------------------------------------------------------------------------


def test_codex_home_is_the_variables_directory_with_links_resolved(tmp_path: Path, home: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    assert codex_home({"CODEX_HOME": str(tmp_path / "link")}) == home.resolve()


@pytest.mark.parametrize("given", [{}, {"CODEX_HOME": ""}])
def test_without_the_variable_codex_home_is_in_the_users_home_and_may_be_absent(given: dict[str, str]) -> None:
    assert codex_home({"HOME": "/no/such", **given}) == Path("/no/such/.codex")


def test_a_codex_home_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="No such file or directory"):
        codex_home({"CODEX_HOME": str(tmp_path / "nope")})
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfigError, match="not a directory"):
        codex_home({"CODEX_HOME": str(tmp_path / "file")})


def test_the_file_is_parsed_again_only_after_it_changed(home: Path) -> None:
    absent = read_config(home)
    write(home, 'model = "one"\n')
    first = read_config(home)
    assert read_config(home) is first
    write(home, 'model = "three"\n')
    assert [settle(home).settings.model, absent.tree, first.tree] == ["three", {}, {"model": "one"}]


# -- providers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "https://api.openai.com/v1"),
        ({"OPENAI_BASE_URL": " "}, "https://api.openai.com/v1"),
        ({"OPENAI_BASE_URL": "http://proxy/v1"}, "http://proxy/v1"),
    ],
)
def test_openai_is_built_in(home: Path, environ: dict[str, str], url: str) -> None:
    provider = settle(home, environ=environ).provider
    assert (provider.id, provider.wire_api, provider.base_url) == ("openai", WireApi.RESPONSES, url)
    assert provider.env_key == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://localhost:11434/v1"),
        ({"CODEX_OSS_PORT": "99"}, "http://localhost:99/v1"),
        ({"CODEX_OSS_PORT": "x"}, "http://localhost:11434/v1"),
        ({"CODEX_OSS_PORT": "99", "CODEX_OSS_BASE_URL": "http://box/v1"}, "http://box/v1"),
    ],
)
def test_oss_is_built_in(home: Path, environ: dict[str, str], url: str) -> None:
    provider = settle(home, environ=environ, config={"model_provider": "oss"}).provider
    assert (provider.id, provider.wire_api, provider.base_url, provider.env_key) == ("oss", WireApi.CHAT, url, None)


def test_a_users_table_does_not_replace_a_built_in_provider(home: Path) -> None:
    write(home, '[model_providers.openai]\nname = "mine"\nbase_url = "http://mine"\n')
    assert settle(home).provider.base_url == "https://api.openai.com/v1"


def test_a_users_provider_is_taken_whole(home: Path) -> None:
    write(
        home,
        'model_provider = "m"\n[model_providers.m]\nname = "Mock"\nbase_url = "http://m/v1"\nwire_api = "responses"\n'
        'env_key = "M_KEY"\nenv_key_instructions = "ask"\nquery_params = { v = "1" }\nhttp_headers = { a = "b" }\n'
        'env_http_headers = { c = "D" }\nrequest_max_retries = 101\nstream_max_retries = 0\n'
        "stream_idle_timeout_ms = 7\n",
    )
    provider = settle(home).provider
    assert (provider.name, provider.base_url, provider.wire_api) == ("Mock", "http://m/v1", WireApi.RESPONSES)
    assert (provider.env_key, provider.env_key_instructions) == ("M_KEY", "ask")
    assert (provider.query_params, provider.http_headers) == ({"v": "1"}, {"a": "b"})
    assert provider.env_http_headers == {"c": "D"}
    assert (provider.request_max_retries, provider.stream_max_retries) == (100, 0)
    assert provider.stream_idle_timeout_ms == 7


def test_chat_and_the_originals_retries_are_a_providers_defaults(home: Path) -> None:
    provider = settle(home, config={"model_provider": "m", "model_providers.m": MOCK}).provider
    assert provider.wire_api is WireApi.CHAT
    assert (provider.request_max_retries, provider.stream_max_retries) == (4, 5)
    assert provider.stream_idle_timeout_ms == 300_000


def test_a_provider_that_lost_its_address_to_an_override_is_refused(home: Path) -> None:
    write(home, 'model_provider = "m"\n[model_providers.m]\nname = "m"\nbase_url = "http://m"\n')
    assert settle(home).provider.base_url == "http://m"
    assert refusal(home, config={"model_providers": {"m": {"name": "m"}}}) == "Model provider `m` has no base_url"


def test_a_bearer_token_becomes_a_header_unless_a_variable_holds_the_key(home: Path) -> None:
    table = {**MOCK, "experimental_bearer_token": "t"}
    config: JsonObject = {"model_provider": "m", "model_providers.m": table}
    assert settle(home, config=config).provider.http_headers == {"Authorization": "Bearer t"}
    config["model_providers.m.env_key"] = "K"
    assert settle(home, config=config).provider.http_headers == {}
    config["model_providers.m"] = {**MOCK, "requires_openai_auth": True}
    del config["model_providers.m.env_key"]
    assert settle(home, config=config).provider.env_key == "OPENAI_API_KEY"


# -- reasoning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "config", "reasoning"),
    [
        ("gpt-5-mini", {}, {"effort": "medium", "summary": "auto"}),
        ("o3", {"model_reasoning_effort": "xhigh"}, {"effort": "xhigh", "summary": "auto"}),
        ("codex-mini-latest", {"model_reasoning_summary": "none"}, {"effort": "medium"}),
        ("gpt-5", {"model_reasoning_effort": "none"}, None),
        ("gpt-4.1", {}, None),
        ("openhermes", {}, None),
        ("mine", {"model_supports_reasoning_summaries": True}, {"effort": "medium", "summary": "auto"}),
    ],
)
def test_only_models_that_reason_are_asked_to(
    home: Path, model: str, config: JsonObject, reasoning: JsonObject | None
) -> None:
    assert settle(home, model=model, config=config).reasoning == reasoning


# -- instructions file -----------------------------------------------------------------------------------------------


def test_the_instructions_file_is_relative_to_cwd_and_weaker_than_the_argument(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.md").write_text("\n be brief \n")
    config = {"experimental_instructions_file": "own.md"}
    assert settle(home, cwd=str(tmp_path), config=config).settings.base_instructions == "be brief"
    given = settle(home, cwd=str(tmp_path), config=config, base_instructions="argument").settings
    assert given.base_instructions == "argument"
    write(home, '[profiles.p]\nexperimental_instructions_file = "own.md"\n')
    assert settle(home, cwd=str(tmp_path), profile="p").settings.base_instructions == "be brief"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent.md", "failed to read experimental instructions file {}: No such file or directory (os error 2)"),
        ("blank.md", "experimental instructions file is empty: {}"),
        (".", "failed to read experimental instructions file {}: not a regular file"),
    ],
)
def test_a_useless_instructions_file_is_refused_even_where_an_argument_replaces_it(
    home: Path, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "blank.md").write_text(" \n")
    request: dict[str, Any] = {"cwd": str(tmp_path), "config": {"experimental_instructions_file": name}}
    assert refusal(home, **request) == text.format(tmp_path / name)
    assert refusal(home, **request, base_instructions="argument") == text.format(tmp_path / name)


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_providers.m.http_headers", {"a": "b"}),
        ("model_providers.m.http_headers.X-Anything", "b"),
        ("model_providers.m.query_params.v", "1"),
        ("model_providers.m.experimental_bearer_token", "t"),
        ("model_providers.m", {**MOCK, "http_headers": {"a": "b"}}),
        ("model_providers", {"m": {**MOCK, "query_params": {"v": "1"}}}),
        ("model_providers.m.base_url", "https://user:pass@host/v1"),
        ("model_providers.m.base_url", "https://host/v1?code=abc"),
        ("model_providers.m.base_url", "https://[broken"),
        ("model_providers.m", {"name": "m", "base_url": "https://user@host/v1"}),
        ("mcp_servers.x.env.ANY", "v"),
        ("mcp_servers.x", {"command": "c", "env": {"ANY": "v"}}),
        ("mcp_servers.x.args", ["--api-key", "v"]),
        ("mcp_servers.x", {"command": "c", "args": ["--header=Authorization: v"]}),
        ("mcp_servers.x.url", "https://user:pass@host/mcp"),
        ("shell_environment_policy.set.API_KEY", "v"),
        ("shell_environment_policy.set", {"A": "b", "my_Token": "v"}),
        ("shell_environment_policy.set.env_key", "v"),
        ("anything.clientSecret", "v"),
        ("anything", [{"deep": {"PASSWORD": "v"}}]),
        ("api_keys", ["v"]),
        ("model_max_output_tokens", "not a number"),
        ("notify", ["curl", "https://hooks.example/T0/B0/s3cr3t"]),
        ("notify", ["notify", "--token", "s3cr3t"]),
        ("notify", ["notify", "--api-key=s3cr3t"]),
        ("notify", ["sh", "-c", "TOKEN_OF_ALL=s3cr3t notify"]),
    ],
)
def test_a_secret_valued_override_is_withheld(key: str, value: object) -> None:
    assert separate({key: value}) == ({}, {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "m"),
        ("model_providers.m", MOCK),
        ("model_providers.monkey.base_url", "http://host/v1"),
        ("model_providers.m.env_key", "API_KEY"),
        ("model_providers.m.env_key_instructions", "get a key"),
        ("model_providers.m.env_http_headers", {"X-Api-Key": "VARIABLE"}),
        ("model_providers.m.env_http_headers.X-Api-Key", "VARIABLE"),
        ("model_auto_compact_token_limit", 1000),
        ("model_max_output_tokens", 1000),
        ("profiles.keys.model", "m"),
        ("mcp_servers.keyring.command", "c"),
        ("mcp_servers.keyring", {"command": "c", "args": ["-y", "@x/server"], "enabled": False}),
        ("features.token_budget", True),
        ("turn_budget.tokens", 1000),
        ("turn_budget", {"tokens": 1000, "requests": 5}),
        ("notify", ["/opt/keyboard/notify.py", "-u"]),
    ],
)
def test_other_overrides_are_stored(key: str, value: object) -> None:
    assert separate({key: value}) == ({key: value}, {})


SECRET: JsonObject = {
    "model_provider": "m",
    "model_providers.m": MOCK,
    "model_providers.m.http_headers": {"Authorization": "Bearer s3cr3t"},
    "model_auto_compact_token_limit": 5,
}


def test_secrets_reach_the_provider_and_neither_the_settings_nor_any_repr(home: Path) -> None:
    request = Request(config={**SECRET, "shell_environment_policy.set.K_TOKEN": "s3cr3t"})
    resolved = resolve(request, home=home, environ={}, server_cwd=SERVER_CWD)
    assert resolved.provider.http_headers == {"Authorization": "Bearer s3cr3t"}
    assert resolved.environment.environment({}) == {"K_TOKEN": "s3cr3t"}
    assert set(resolved.settings.withheld) == {
        "model_providers.m.http_headers",
        "shell_environment_policy.set.K_TOKEN",
    }
    assert set(resolved.secrets) == set(resolved.settings.withheld)
    assert "s3cr3t" not in f"{request!r} {resolved!r}"
    assert "s3cr3t" not in encode(resolved.settings.overrides)


# -- reopen ----------------------------------------------------------------------------------------------------------


def test_reopening_gives_back_the_same_with_the_settings_unchanged(home: Path) -> None:
    write(home, 'model = "file"\n')
    first = settle(home, config=SECRET)
    stored = replace(first.settings, overrides=decode_object(encode(first.settings.overrides)))
    assert reopen(stored, first.secrets, home=home, environ={}) == first


def test_reopening_restores_a_secret_inside_a_table_whatever_order_the_row_kept(home: Path) -> None:
    first = settle(home, config=SECRET)
    shuffled = replace(first.settings, overrides=dict(sorted(first.settings.overrides.items(), reverse=True)))
    assert reopen(shuffled, first.secrets, home=home, environ={}).provider == first.provider


def test_reopening_follows_todays_file_for_the_provider_alone(home: Path) -> None:
    write(home, 'model = "one"\nmodel_provider = "m"\n[model_providers.m]\nname = "m"\nbase_url = "http://old"\n')
    settings = settle(home).settings
    write(home, 'model = "two"\n[model_providers.m]\nname = "m"\nbase_url = "http://changed"\n')
    again = reopen(settings, None, home=home, environ={})
    assert again.settings is settings
    assert (again.settings.model, again.provider.base_url) == ("one", "http://changed")
    write(home, "")
    with pytest.raises(InvalidConfigError, match="Model provider `m` not found"):
        reopen(settings, None, home=home, environ={})


def test_what_agents_md_said_stays_in_the_session_and_is_not_read_again(home: Path) -> None:
    (home / "AGENTS.md").write_text("be brief")
    first = settle(home)
    assert first.user_instructions == "be brief"
    assert reopen(first.settings, None, home=home, environ={}).user_instructions is None


def test_reopening_outlives_its_profile(home: Path) -> None:
    write(home, '[profiles.p]\nmodel = "o3"\nmodel_reasoning_effort = "high"\n')
    first = settle(home, profile="p")
    assert first.reasoning == {"effort": "high", "summary": "auto"}
    write(home, "")
    again = reopen(first.settings, None, home=home, environ={})
    assert (again.settings.model, again.reasoning) == ("o3", {"effort": "medium", "summary": "auto"})


@pytest.mark.parametrize("secrets", [None, {}, {"other": 1}])
def test_reopening_without_the_withheld_values_says_which_are_missing(home: Path, secrets: JsonObject | None) -> None:
    settings = settle(home, config=SECRET).settings
    with pytest.raises(CredentialsMissingError, match=r"`model_providers\.m\.http_headers`"):
        reopen(settings, secrets, home=home, environ={})


def test_reopening_an_unchanged_session_is_cheap(home: Path) -> None:
    """The budget is 100 µs; the best of several rounds, so that a busy machine does not fail it."""
    write(home, LAYERS)
    first = settle(home, config=SECRET)
    rounds: list[float] = []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(50):
            reopen(first.settings, first.secrets, home=home, environ={})
        rounds.append((time.perf_counter() - started) / 50)
    assert min(rounds) < 100e-6


# -- the environment of commands -------------------------------------------------------------------------------------

BASE = {"PATH": "/bin", "HOME": "/h", "EDITOR": "vi", "OPENAI_API_KEY": "k", "my_secret": "s", "A[1]": "x", "AB1": "y"}


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (EnvironmentPolicy(), {"PATH", "HOME", "EDITOR", "A[1]", "AB1"}),
        (EnvironmentPolicy(ignore_default_excludes=True), set(BASE)),
        (EnvironmentPolicy(inherit=Inherit.CORE), {"PATH", "HOME"}),
        (EnvironmentPolicy(inherit=Inherit.NONE), set[str]()),
        (EnvironmentPolicy(exclude=("e*", "a??")), {"PATH", "HOME", "A[1]"}),
        (EnvironmentPolicy(exclude=("A[1]",)), {"PATH", "HOME", "EDITOR", "AB1"}),
        (EnvironmentPolicy(inherit=Inherit.NONE, assign={"MY_KEY": "v"}), {"MY_KEY"}),
        (EnvironmentPolicy(assign={"X": "v"}, include_only=("path",)), {"PATH"}),
        (EnvironmentPolicy(include_only=("*key*",)), set[str]()),
    ],
)
def test_commands_inherit_what_the_policy_leaves(policy: EnvironmentPolicy, names: set[str]) -> None:
    assert set(policy.environment(BASE)) == names


def test_assigned_variables_replace_inherited_ones_and_the_base_stays(home: Path) -> None:
    write(home, '[shell_environment_policy]\ninherit = "core"\nset = { PATH = "/own" }\n')
    base = dict(BASE)
    assert settle(home).environment.environment(base) == {"PATH": "/own", "HOME": "/h"}
    assert base == BASE


# -- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(Config.model_fields))
def test_every_key_is_documented(key: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
    table = page.partition("## config.toml")[2].partition("\n## ")[0]
    assert re.search(rf"^\| [^|]*`\[?{key}\b", table, re.MULTILINE)


# -- MCP servers -----------------------------------------------------------------------------------------------------


def test_mcp_servers_are_read_sorted_and_without_those_that_are_off(home: Path) -> None:
    write(
        home,
        """
[mcp_servers.z]
command = "z"
[mcp_servers.off]
command = "o"
enabled = false
[mcp_servers.a]
command = "a"
args = ["--x", "s3cr3t"]
env = { K = "s3cr3t" }
cwd = "sub"
startup_timeout_sec = 2.5
tool_timeout_sec = 7
enabled_tools = ["one", "two"]
disabled_tools = ["two"]
[mcp_servers.web]
url = "https://host/mcp?key=s3cr3t"
""",
    )
    resolved = settle(home)
    assert [server.name for server in resolved.mcp_servers] == ["a", "web", "z"]
    first, web, last = resolved.mcp_servers
    assert (first.command, first.args, first.env, first.cwd) == ("a", ("--x", "s3cr3t"), {"K": "s3cr3t"}, "sub")
    assert (first.startup_timeout_s, first.tool_timeout_s) == (2.5, 7)
    assert [name for name in ("one", "two", "three") if first.offers(name)] == ["one"]
    assert (web.command, web.url) == (None, "https://host/mcp?key=s3cr3t")
    assert (last.startup_timeout_s, last.tool_timeout_s, last.offers("any")) == (10, 60, True)
    assert "s3cr3t" not in repr(resolved)
    assert resolved.unknown_keys == ()


def test_mcp_servers_are_added_and_changed_by_overrides(home: Path) -> None:
    write(home, '[mcp_servers.a]\ncommand = "a"\n')
    resolved = settle(home, config={"mcp_servers.a.enabled": False, "mcp_servers.b": {"command": "b"}})
    assert [server.name for server in resolved.mcp_servers] == ["b"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("args = 1", "invalid type: integer `1`, expected a sequence"),
        ("startup_timeout_sec = 0", "expected a number above 0"),
        ("tool_timeout_sec = 3601", "expected a number of at most 3600"),
        ('enabled = "no"', 'invalid type: string "no", expected a boolean'),
    ],
)
def test_a_wrong_value_of_an_mcp_server_is_refused(home: Path, text: str, reason: str) -> None:
    write(home, f"[mcp_servers.a]\n{text}\n")
    assert reason in refusal(home)
    assert f"in `mcp_servers.a.{text.partition(' ')[0]}`" in refusal(home)


def test_a_secret_of_an_mcp_server_is_not_quoted(home: Path) -> None:
    write(home, "[mcp_servers.a]\nenv = { ANY = 471104 }\n")
    assert "471104" not in refusal(home)


def test_unknown_keys_of_an_mcp_server_are_named(home: Path) -> None:
    write(home, '[mcp_servers.a]\ncommand = "a"\ncomand = "b"\n')
    assert settle(home).unknown_keys == ("mcp_servers.a.comand",)
