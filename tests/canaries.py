"""Values that must never be seen: put them where secrets go, then look at all that comes out."""

CANARY_KEY_ID = "LTAIcanaryKeyId0123456789"
CANARY_SECRET = "canarySecret.0123456789abcdefXYZ"
CANARY_TOKEN = "CAIScanaryToken0123456789abcdef"
CANARY_HANDLE = "8-canaryHandle0123456789abcdef"
CANARY_PHONE = "13987654321"
CANARY_CONTENT = "canary content of an SMS"

CANARIES = (
    CANARY_KEY_ID,
    CANARY_SECRET,
    CANARY_TOKEN,
    CANARY_HANDLE,
    CANARY_PHONE,
    CANARY_CONTENT,
)


def assert_holds_no_canary(text: str) -> None:
    """Fail if any canary is in `text`, whole or without its first or last character."""
    for canary in CANARIES:
        for part in (canary, canary[1:], canary[:-1]):
            assert part not in text, f"{canary} was seen in: {text[:500]}"
