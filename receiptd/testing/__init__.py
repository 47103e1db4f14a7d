"""For those who write a puller or a provider: suites that hold it to receiptd's contracts.

`conformance.PullerConformance` is for a puller alone, `delivery.DeliveryConformance` for the same
puller under the real worker, pipeline and store, `provider.ProviderConformance` for a provider.
docs/adding-a-provider.md shows all three. They need pytest; nothing else in receiptd imports them.
"""

import pytest

# So that a failure shows what was compared: pytest rewrites asserts in nobody's modules unasked.
_WITH_ASSERTS = ("clients", "conformance", "delivery", "messages", "samples", "sends")
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _WITH_ASSERTS))
