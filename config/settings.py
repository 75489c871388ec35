"""Every setting of Voicemill, typed and explained: one environment variable each, named like the field in capitals."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from config import environment
from config.bounds import BEAMS, check_encoder_window, check_gpus
from voicemill.address import DEFAULT_URL, masked

Device = Literal["auto", "cuda", "cpu"]
_FERNET_KEY = re.compile("[A-Za-z0-9_-]{43}=")
SHAPES: dict[str, Any] = {"shapes_transcript": True}  # of settings with which the same audio may give another text
LONGEST = 1e9  # seconds, thirty years: beyond it the clocks of the operating system and of Redis overflow
Seconds = Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False)]
Lifetime = Annotated[float, Field(ge=1, le=LONGEST, allow_inf_nan=False)]  # seconds; Redis counts whole ones
Bytes = Annotated[int, Field(gt=0)]


class SettingsError(Exception):
    """One or more settings are wrong; the message names each variable, what it got and what it takes."""


class _Environment(EnvSettingsSource):
    """The variables that `config.environment` found, in place of pydantic's own reading of `os.environ`."""

    def _load_env_vars(self) -> dict[str, str | None]:
        return {name.lower(): value for name, value in environment.values().items()}


class Settings(BaseSettings):
    """The effective settings. Field descriptions are the reference: `.env.example` and the README are made of them."""

    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore", frozen=True, hide_input_in_errors=True)

    # Redis
    redis_url: SecretStr = Field(
        SecretStr(DEFAULT_URL), description="Redis of queues, handoff and jobs; rediss:// for TLS"
    )
    redis_username: str | None = Field(None, description="ACL user, where the URL names none")
    redis_password: SecretStr | None = Field(None, description="Password, where the URL holds none")
    redis_ca_certs: str | None = Field(None, description="File of the authority that signed a rediss:// certificate")
    redis_start_timeout: Seconds = Field(60, description="How long a starting worker waits for Redis (seconds)")
    result_ttl: Lifetime = Field(7 * 86400, description="How long a job's record is kept (seconds)")
    handoff_ttl: Lifetime = Field(
        86400, description="How long audio waits for its turn, and an upload for decode (seconds)"
    )
    handoff_url: str | None = Field(
        None, description="Where long audio waits instead of in Redis: s3://bucket/folder, file:///folder, ..."
    )
    handoff_url_from: Bytes = Field(
        16 * 1024**2, description="Size from which audio and uploads go to HANDOFF_URL (bytes)"
    )
    handoff_key: SecretStr | None = Field(
        None,
        description="Fernet keys for waiting audio: the first encrypts, all decrypt; the same for workers and backends",
    )
    max_queued: int = Field(
        100_000,
        gt=0,
        description="Most messages of decode before sending is refused, and of transcribe before decoding pauses",
    )
    max_handoff_bytes: Bytes = Field(
        8 * 1024**3, description="Most audio in Redis before sending is refused, decoding pauses (bytes)"
    )
    max_worker_kills: int = Field(
        3, ge=1, description="How many worker processes a message may take with it before its job fails"
    )
    shutdown_timeout: Seconds = Field(
        30, description="How long running work may take to end when a worker is stopped (seconds)"
    )

    # Decode
    media_root: str | None = Field(
        None, description="Folder that paths and file:// sources must lie in; unset: paths are refused"
    )
    max_source_bytes: Bytes = Field(512 * 1024**2, description="Largest source (bytes)")
    max_duration: Seconds = Field(4 * 3600, description="Longest message, counted on the decoded audio (seconds)")
    min_duration: float = Field(0.05, ge=0, allow_inf_nan=False, description="Shortest message (seconds)")
    source_allow_http: bool = Field(False, description="Whether http:// sources are fetched, too")
    source_allow_private: bool = Field(
        False, description="Whether sources may lie on private and loopback addresses; for closed networks only"
    )
    source_allow_hosts: str = Field(
        "", description="Only hosts that sources may lie on: names such as *.example.com, or networks; empty: all"
    )
    source_deny_hosts: str = Field("", description="Hosts that sources may not lie on: names or networks")
    source_remotes: str = Field(
        "", description="Prefixes that fsspec may read, such as s3://bucket/inbox/ gs://other/; empty: none"
    )
    fetch_connect_timeout: Seconds = Field(10, description="Time limit of connecting to a source's server (seconds)")
    fetch_read_timeout: Seconds = Field(30, description="How long a source's server may stay silent (seconds)")
    fetch_timeout: Seconds = Field(300, description="Time limit of fetching a source (seconds)")
    normalize_loudness: bool = Field(
        False,
        description="Whether quiet and uneven voices are raised to one loudness before they are transcribed",
        json_schema_extra=SHAPES,
    )
    decode_timeout: Seconds = Field(300, description="Time limit of one FFmpeg run (seconds)")

    # Transcribe
    whisper_model: str = Field(
        "small",
        min_length=1,
        description="A folder, a name from the model hub (`small`, `owner/name`), `bundled:tiny.en` or `bundled:base`",
        json_schema_extra=SHAPES,
    )
    whisper_model_dir: str | None = Field(
        None,
        description="Where hub models are kept; unset: /workspace/models if /workspace exists, else the hub's cache",
    )
    whisper_device: Device = Field(
        "auto", description="auto: a fit GPU, else CPU with a warning; cuda: a fit GPU or exit 1; cpu: no GPU checks"
    )
    whisper_compute_type: str = Field(
        "auto",
        description="auto (float16 on a GPU, int8 on a CPU), or float16, int8_float16, int8, bfloat16, float32",
        json_schema_extra=SHAPES,
    )
    whisper_beam_size: int = Field(
        5,
        ge=1,
        le=BEAMS,
        description="Beam size of the pass that decodes a doubtful window again in full",
        json_schema_extra=SHAPES,
    )
    whisper_gpus: Annotated[str, AfterValidator(check_gpus)] = Field(
        "all", description="Which visible GPUs to use: all, or indices such as 0,1"
    )
    whisper_cpu_replicas: int = Field(
        0,
        ge=0,
        description="Model processes on a CPU, one a core at most; 0: the fastest in a trial at the first start",
    )
    encoder_window: Annotated[str, AfterValidator(check_encoder_window)] = Field(
        "auto",
        description="Least audio the encoder is shown: auto (10 to 12 s for proven sizes), full (30 s), or seconds",
        json_schema_extra=SHAPES,
    )
    transcribe_timeout: Seconds = Field(
        120, description="Time limit of a window's work, to which four times its audio's length is added (seconds)"
    )

    # Enrich
    gemini_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("gemini_api_key", "google_api_key"),
        description="Key of the Gemini API (GOOGLE_API_KEY is taken too); unset: jobs end without a summary",
    )
    gemini_model: str = Field(
        "gemini-flash-lite-latest", min_length=1, description="Gemini model that writes summaries"
    )
    gemini_sdk: str = Field(
        "google-generativeai",
        description="Google's SDK: google-generativeai (no longer developed) or google-genai (extra enrich-genai)",
    )
    gemini_endpoint: str | None = Field(
        None, description="Other address of the Gemini API, such as a proxy's: https://HOST"
    )
    gemini_timeout: Seconds = Field(60, description="How long Gemini may leave a request without an answer (seconds)")
    gemini_max_output_tokens: int = Field(
        16384, ge=256, le=65536, description="Longest answer of Gemini, its thoughts included (tokens)"
    )
    gemini_requests_per_minute: int = Field(
        0, ge=0, description="Most requests to Gemini a minute, over all workers; 0: no limit of ours"
    )
    gemini_tokens_per_minute: int = Field(
        0, ge=0, description="Most input tokens sent to Gemini a minute, over all workers; 0: no limit of ours"
    )
    enrich_prompt: str | None = Field(None, description="File with the prompt; unset: config/prompts/summary.txt")
    enrich_schema: str | None = Field(
        None,
        description="Shape of the summary: a JSON Schema file (*.json) or a pydantic model as package.module:Model; "
        "unset: Voicemill's own",
    )
    enrich_language: str | None = Field(
        None, min_length=2, description="Language of summaries, such as en or German; unset: the message's own"
    )
    enrich_part_tokens: int = Field(
        8000, ge=500, description="Longest transcript summarised in one piece; longer ones part by part (tokens)"
    )
    enrich_tries: int = Field(
        12, ge=1, description="Most failed requests to Gemini for a job; those that all jobs suffer from do not count"
    )
    enrich_redact: bool = Field(
        False,
        description="true: e-mail addresses, phone, card and ID numbers are masked before they leave, then put back",
    )
    enrich_redact_region: str = Field(
        "US", pattern="^[A-Z]{2}$", description="Country whose phone numbers are known without their country code"
    )
    enrich_deadline: Seconds = Field(
        93600,
        description="After this long a job ends without its summary rather than wait for Gemini (seconds); "
        "the default outlasts a day's quota",
    )

    # Webhooks
    webhook_url: SecretStr | None = Field(
        None, description="Where every job's record is POSTed that names no callback_url of its own; unset: nowhere"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks: whsec_ and base64; two, between blanks, while one takes the other's place"
    )
    webhook_allow_http: bool = Field(False, description="Whether webhooks go to http:// addresses, too")
    webhook_allow_private: bool = Field(
        False, description="Whether webhooks go to private and loopback addresses; for closed networks only"
    )
    webhook_allow_hosts: str = Field(
        "", description="Only hosts that webhooks go to: names such as *.example.com, or networks; empty: all"
    )
    webhook_timeout: Seconds = Field(15, description="Time limit of one delivery of a webhook (seconds)")
    webhook_backoff: str = Field(
        "5 60 300 1800 3600 7200 14400 28800",
        pattern=r"^\d+(\.\d+)?( \d+(\.\d+)?)*$",
        description="Waits after a failed delivery, the last one again and again (seconds, between blanks)",
    )
    webhook_give_up: Seconds = Field(
        7 * 86400, description="How long a delivery is tried, at most 95 % of RESULT_TTL (seconds)"
    )

    # HTTP API and dashboard (`voicemill web`)
    host: str = Field("127.0.0.1", min_length=1, description="Address that the HTTP API listens on; 0.0.0.0: all")
    port: int = Field(8000, ge=0, le=65535, description="Port that the HTTP API listens on; 0: any free one")
    api_keys: SecretStr | None = Field(
        None,
        description="Who may come in: name:hash pairs of `web --new-key NAME`; unset: loopback only, no keys",
    )
    api_requests_per_minute: int = Field(
        600, ge=0, description="Most requests of a key a minute, over all doors; 0: no limit"
    )
    api_max_bytes: Bytes | None = Field(None, description="Largest upload (bytes); unset: MAX_SOURCE_BYTES")
    api_wait_timeout: Seconds = Field(
        540,  # OpenAI's clients leave after 600, which would end the job
        description="How long /v1/audio/* waits for a transcript before it gives up, and its job goes on (seconds)",
    )
    api_cors_origins: str = Field(
        "", description="Origins whose pages may call the HTTP API, such as https://app.example.com; empty: none"
    )

    # Metrics and health
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65500,
        description="First port of /metrics, /healthz, /readyz: decode's; transcribe +1, enrich +2, webhook +3; "
        "0: any free ones; unset: none",
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="Address that metrics are served on; 0.0.0.0: all; they need no key"
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line that is logged"
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console with colours on a terminal, JSON lines otherwise"
    )

    @field_validator("log_level", "log_format", "whisper_device", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _address_of_redis(cls, value: SecretStr) -> SecretStr:
        try:
            address = urlsplit(value.get_secret_value())
            known = address.scheme in ("redis", "rediss", "unix") and address.port != 0
        except ValueError:  # the port is no number
            known = False
        if not known:
            raise ValueError("takes redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix://PATH")
        return value

    @field_validator("gemini_endpoint")
    @classmethod
    def _address_of_gemini(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", value):
            raise ValueError("takes https://HOST, with what stands before /v1beta where that is not all")
        return value

    @field_validator("handoff_key")
    @classmethod
    def _fernet_keys(cls, value: SecretStr | None) -> SecretStr | None:
        keys = [] if value is None else value.get_secret_value().replace(",", " ").split()
        if any(not _FERNET_KEY.fullmatch(key) for key in keys):
            raise ValueError("takes Fernet keys: each is 32 bytes in URL-safe base64")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("takes an https:// address")
        return value

    @field_validator("whisper_compute_type")
    @classmethod
    def _known_compute_type(cls, value: str) -> str:
        known = ("auto", "float16", "int8_float16", "int8", "int8_float32", "int8_bfloat16", "bfloat16", "float32")
        if value not in known:
            raise ValueError(f"takes one of {', '.join(known)}")
        return value

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller, then from `config.environment`, and from nowhere else."""
        return init_settings, _Environment(settings_cls)


SHAPING = tuple(name for name, field in Settings.model_fields.items() if field.json_schema_extra == SHAPES)


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return field.upper()


@cache
def get() -> Settings:
    """Return the effective settings, read once a process.

    Raises:
        SettingsError: a variable holds what it does not take, or `.env` cannot be read.
    """
    try:
        return Settings()
    except environment.DotenvError as error:
        raise SettingsError(str(error)) from None
    except ValidationError as error:
        values = {name.lower(): value for name, value in environment.values().items()}
        secret = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
        lines = []
        for problem in error.errors():
            name = str(problem["loc"][0])
            got = "a value that is not shown" if name in secret else repr(values.get(name.lower(), ""))
            lines.append(f"{variable(name)} is {got}: {problem['msg'].removeprefix('Value error, ')}")
        raise SettingsError("\n".join(lines)) from None


def effective(settings: Settings) -> dict[str, str]:
    """Return every variable with its effective value, secrets masked: what `voicemill settings` prints."""
    shown = {}
    for field in Settings.model_fields:
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            value = masked(value.get_secret_value()) if field.endswith("_url") else "********"
        shown[variable(field)] = "" if value is None else str(value)
    return shown


def example() -> str:
    """Return the text of `.env.example`: every variable with its meaning and default, commented out."""
    lines = [
        "# Every setting of Voicemill with its default. Copy this file to .env beside the Procfile and set what",
        "# differs; the environment of the process overrules it. Generated by `voicemill settings --example`.",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        lines += ["", f"# {field.description}", f"#{variable(name)}={'' if default is None else default}"]
    return "\n".join(lines) + "\n"
