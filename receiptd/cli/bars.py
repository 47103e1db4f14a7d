"""The progress bars of long commands: on stderr, and only where that is a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


def bars(*columns: "str | ProgressColumn", hidden: bool = False) -> "Progress":
    """Return bars with these columns, to be shown within a `with`; a text is a format of `task`.

    They are gone when it ends. If stderr is no terminal, or if `hidden`, they are disabled: tasks
    can be added and advanced all the same.
    """
    # Here, as in the callers: commands without a bar must not pay for rich at their start.
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    return Progress(
        *(TextColumn(one) if isinstance(one, str) else one for one in columns),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
        # Or results that are printed meanwhile would go to stderr, too.
        redirect_stdout=False,
    )
