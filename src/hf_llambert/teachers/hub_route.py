"""The request that asks the Hub's Inference Providers, as `huggingface_hub` would send it."""

from __future__ import annotations

from urllib.parse import urlsplit

from hf_llambert.teachers.keys import NO_KEY, endpoint_key
from hf_llambert.teachers.server import Served


def hub_request(teacher: Served, payload: dict, key: str) -> tuple[str, dict]:
    """
    Where a request without `base_url` goes, and what is posted there. With the name of a provider, the first call asks the
    Hub for the model's name at that provider.

    Args:
        teacher (`Served`): Who is asked.
        payload (`dict`): Messages and parameters.
        key (`str`): The key that will be sent.

    Raises:
        ValueError: The Hub knows no such provider or model, or the provider has no chat for it.
        PermissionError: There is no key, or it would go to a host that it is not for.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.inference._providers import get_provider_helper

    if key == NO_KEY:
        raise PermissionError(
            "The Hub's providers need a token. Log in with hf auth login, set HF_TOKEN, or pass base_url for another server."
        )
    provider = teacher.provider or "auto"
    parameters = {name: value for name, value in payload.items() if name != "messages"}
    try:
        helper = get_provider_helper(provider, "conversational", teacher.model)  # type: ignore[arg-type]
        request = helper.prepare_request(
            inputs=payload["messages"], parameters=parameters, headers={}, model=teacher.model, api_key=key
        )
    except (ValueError, HfHubHTTPError) as error:
        raise ValueError(
            f"The Hub cannot have '{teacher.model}' answered by provider '{provider}': {str(error)[:300]} Pass another model or "
            f"provider, or base_url."
        ) from error
    if urlsplit(request.url).scheme != "https" or endpoint_key(teacher.api_key_variable, request.url) != key:
        raise PermissionError(
            f"The Hub's token does not go to '{urlsplit(request.url).hostname}'. Put that provider's own key into an environment "
            f"variable, and name it with api_key_variable."
        )
    return request.url, dict(request.json or {})  # type: ignore[arg-type]  # a chat's is a mapping
