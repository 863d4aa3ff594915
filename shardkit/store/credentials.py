"""What the object stores are opened with: endpoints and credentials from where each store's users keep them.

Here: environment variables and profiles, read anew in every process; nothing of it is kept in a state.
Elsewhere: the chains that obstore walks by itself: keys in the environment, web identity, container and instance
roles (s3); service accounts, gcloud's application default, the metadata server (gs); keys, SAS, service principals,
workload and managed identities (az).
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from shardkit.errors import SpecError

HINTS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use an instance role; a public bucket "
    "needs AWS_SKIP_SIGNATURE=true",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`; a public bucket needs "
    "GOOGLE_SKIP_SIGNATURE=true",
    "az": "set AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING; a public "
    "container needs AZURE_SKIP_SIGNATURE=true",
}
"""What to do about missing or refused credentials."""

_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class Access(NamedTuple):
    """The store's configuration, options of its HTTP client, and a function that gives credentials."""

    config: dict[str, Any]
    client: dict[str, Any]
    provider: Any = None


def find_access(scheme: str, env: Mapping[str, str] | None = None) -> Access:
    """What the environment says about a scheme's stores. Raises SpecError: no account, http beyond this machine."""
    return _FINDERS[scheme](os.environ if env is None else env)


def bucket_region(bucket: str, silence_seconds: float, env: Mapping[str, str] | None = None) -> str:
    """The region that S3 names for a bucket, also to those who may not read it; empty where it names none."""
    env = os.environ if env is None else env
    endpoint = _first(env, *_S3_ENDPOINTS) or "https://s3.amazonaws.com"
    try:
        timeout = urllib3.Timeout(connect=silence_seconds, read=silence_seconds)
        with urllib3.PoolManager() as pool:
            url = f"{endpoint.rstrip('/')}/{bucket}"
            answer = pool.request("HEAD", url, timeout=timeout, retries=False, redirect=False)
    except HTTPError:
        return ""
    said = answer.headers.get("x-amz-bucket-region", "")
    return said if re.fullmatch(r"[a-z0-9-]{1,40}", said) else ""


def _s3(env: Mapping[str, str]) -> Access:
    endpoint = _first(env, *_S3_ENDPOINTS)
    region = _first(env, "AWS_REGION", "AWS_DEFAULT_REGION")
    config: dict[str, Any] = {}
    provider = None
    if _names_profile(env):
        provider, profile_region = _profile(env)
        region = region or profile_region
    if endpoint:
        config["endpoint"] = endpoint
    if region:
        config["region"] = region
    return Access(config, _client(endpoint, "AWS_ALLOW_HTTP", env), provider)


def _gs(env: Mapping[str, str]) -> Access:
    config: dict[str, Any] = {}
    endpoint = env.get("GOOGLE_BASE_URL", "")
    if emulator := env.get("STORAGE_EMULATOR_HOST", ""):  # the name that Google's own libraries use
        endpoint = emulator if "://" in emulator else f"http://{emulator}"
        config["skip_signature"] = True
    if endpoint:
        config["base_url"] = endpoint.rstrip("/")
    return Access(config, _client(endpoint, "GOOGLE_ALLOW_HTTP", env))


def _az(env: Mapping[str, str]) -> Access:
    said = _connection_string(env.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    wanted = {
        "account_name": _first(env, "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT") or said.get("accountname"),
        "account_key": _first(env, "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY")
        or said.get("accountkey"),
        "sas_key": _first(env, "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY") or said.get("sharedaccesssignature"),
        "endpoint": _first(env, "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT") or said.get("blobendpoint"),
    }
    config: dict[str, Any] = {name: value for name, value in wanted.items() if value}
    if "account_name" not in config and not env.get("AZURE_STORAGE_USE_EMULATOR"):
        raise SpecError("az:// needs a storage account: set AZURE_STORAGE_ACCOUNT_NAME or a connection string")
    return Access(config, _client(config.get("endpoint", ""), "AZURE_ALLOW_HTTP", env))


_FINDERS = {"s3": _s3, "gs": _gs, "az": _az}


def _first(env: Mapping[str, str], *names: str) -> str:
    return next((env[name] for name in names if env.get(name)), "")


def _client(endpoint: str, allowed_by: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Plain http is for this machine only, unless the user allows it: whatever is sent can be read on the way."""
    parts = urlsplit(endpoint)
    if parts.scheme.lower() != "http":
        return {}
    if not _is_loopback(parts.hostname or "") and env.get(allowed_by, "").lower() not in ("1", "true", "yes"):
        raise SpecError(
            f"the endpoint http://{parts.hostname} is neither https nor on this machine; set {allowed_by}=true to "
            "use it all the same"
        )
    return {"allow_http": True}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _names_profile(env: Mapping[str, str]) -> bool:
    """Whether credentials are in profiles, as the AWS tools see it: keys in the environment come before them."""
    if env.get("AWS_ACCESS_KEY_ID") or env.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return False
    if _first(env, "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        return True
    home = Path(env.get("HOME", "/")) / ".aws"
    files = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    return any(Path(env.get(name) or home / default).is_file() for name, default in files)


def _profile(env: Mapping[str, str]) -> tuple[Any, str]:
    """Credentials and region of the profile, which boto3 reads with all that it may say (roles, SSO, processes)."""
    name = _first(env, "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError:
        if not name:
            return None, ""
        raise SpecError(
            f"AWS_PROFILE={name} needs the package boto3, which is not installed; pip install 'shardkit[cloud]', or "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    try:
        session = boto3.Session()
        region = str(session.region_name or "")
        if session.get_credentials() is None:
            return None, region
    except BotoCoreError as error:
        raise SpecError(f"the AWS profile {name or 'default'} cannot be used: {type(error).__name__}") from None
    from obstore.auth.boto3 import Boto3CredentialProvider

    return Boto3CredentialProvider(session), region


def _connection_string(text: str) -> dict[str, str]:
    """`AccountName=…;AccountKey=…;BlobEndpoint=…` by its names in lower case."""
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
