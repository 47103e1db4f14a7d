"""The package of docs/adding-a-provider.md, as the files that somebody copies from the page."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-provider.md"
_OF_NO_NAME = "receiptd_tencent.py"  # shown in pieces
_INFO = "receiptd_tencent-1.0.dist-info"


def install(folder: Path) -> None:
    """Write the modules, their tests and the metadata that declares them into `folder`."""
    page = PAGE.read_text()
    files: dict[str, str] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        named = re.match(r"# (\w+\.py)\n", block)
        name = named[1] if named else _OF_NO_NAME
        files[name] = files.get(name, "") + "\n\n" + block
    [declared] = re.findall(r"```toml\n# pyproject.toml of your package\n(.*?)```", page, re.DOTALL)
    points = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", declared).replace('"', "")
    files[f"{_INFO}/METADATA"] = "Metadata-Version: 2.1\nName: receiptd-tencent\nVersion: 1.0\n"
    files[f"{_INFO}/entry_points.txt"] = points
    (folder / _INFO).mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
