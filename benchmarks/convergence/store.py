"""Records of finished runs, a JSON file each."""

import json
import subprocess
from pathlib import Path

from smca.errors import InputError
from smca.whole_file import replacing


class Store:
    """A folder of records, which may be those of several machines."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.runs = self.folder / "runs"

    def load(self) -> dict[str, dict]:
        """Records by the name of their run.

        Raises:
            InputError: for a file that is no record, by its name.
        """
        records = {}
        for path in sorted(self.runs.glob("*.json")):
            try:
                record = json.loads(path.read_text())
                # What every reader of it relies on.
                _ = record["run"]["variant"], record["curve"][-1]["AP"]
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise InputError(
                    f"{path} is no record of a run ({error!r}); remove it to do the run again"
                ) from error
            records[path.stem] = record
        return records

    def save(self, name: str, record: dict, *, commit: bool = False) -> Path:
        """Write a record, whole or not at all.

        Args:
            name: of the run.
            record: plain data.
            commit: also commit the file, and nothing else, to the git repository that it is in.
        """
        self.runs.mkdir(parents=True, exist_ok=True)
        path = self.runs / f"{name}.json"
        with replacing(path) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n")
        if commit:
            self._commit(path, f"Study: {name}, AP {record['curve'][-1]['AP']:.1f}")
        return path

    def _commit(self, path: Path, message: str) -> None:
        for command in (["add", "--", path.name], ["commit", "-qm", message, "--", path.name]):
            done = subprocess.run(
                ["git", *command], cwd=path.parent, capture_output=True, text=True
            )
            if done.returncode:
                # The record is there; a later commit takes it.
                print(f"not committed: {done.stderr.strip()}", flush=True)
                return
