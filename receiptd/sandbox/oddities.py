"""How the query APIs deviate from their documents: the `[query]` table of a scenario."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Oddities(BaseModel):
    """What the queries do that a client must survive. Without values: they behave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    total_count_text: bool = False  # Aliyun's TotalCount as text, as its document has it
    wrong_totals: Share = 0.0  # answers whose total is not the number of rows
    empty_lists: Share = 0.0  # answers with a right total and no row
    shifted_pages: Share = 0.0  # pages after the first that begin one row too early or too late
    shuffled: bool = False  # rows in no order (the same one on every page), not the newest first
    without_out_id: Share = 0.0  # rows whose OutId or extend is missing
    blank_while_waiting: bool = False  # ErrCode and ReceiveDate are "" until known, not missing
    hidden_s: Seconds = 0.0  # from the send until its row is found
    lag_s: Seconds = 0.0  # from the carrier's report until the queries know it
    receive_date_off_s: float = 0.0  # how much later than the queue's report_time
    delivered_code: str = "DELIVERED"  # what Aliyun's ErrCode says of a delivered message
    calls_per_s: Annotated[int, Field(gt=0)] | None = None  # of each query API, by its own clock
    throttle_code: str = "Throttling.User"  # or isv.BUSINESS_LIMIT_CONTROL
