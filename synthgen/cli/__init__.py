"""The command line: a thin layer over the library, with the same verbs."""

from __future__ import annotations

import os
import sys
import traceback

import click

from synthgen import __version__
from synthgen.cli import assess, demo, dicom, draw, inspect, options, run
from synthgen.errors import SynthgenError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="synthgen")
def cli() -> None:
    """Synthetic patient data that can be shared because it was attacked first.

    Exit codes: 0 done or released; 1 unexpected error; 2 usage; 3 refused; 4 inconclusive (review); 5 data, schema or
    study invalid; 6 missing extra or environment; 130 interrupted (a checkpoint was written).
    """


for command in (
    demo.demo,
    run.init,
    inspect.schema,
    run.run,
    run.fit,
    draw.sample,
    draw.impute,
    assess.audit,
    assess.validate,
    assess.compare,
    assess.release,
    assess.verify,
    assess.report,
    dicom.dicom,
    inspect.list_,
    inspect.describe,
    inspect.doctor,
    inspect.config_schema,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code that its outcome has."""
    options.configure_logging()
    try:
        code = cli.main(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SynthgenError as error:
        options.fail(str(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        options.fail("interrupted")
        code = 130
    except MemoryError:
        options.fail("out of memory: use fewer columns or rows, or a larger machine")
        code = 6
    except Exception as error:  # the last resort: a message of another library may quote patients' values
        if os.environ.get("SYNTHGEN_DEBUG"):
            raise
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of a device; torch is not loaded for its sake
            options.fail("the device is out of memory: add --set device=cpu, or use fewer columns")
            sys.exit(6)
        options.fail(
            f"unexpected {type(error).__name__} at {_place(error)}. This is a bug. Its message is not shown, since it "
            "could quote a patient's value; SYNTHGEN_DEBUG=1 shows it."
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _place(error: BaseException) -> str:
    """File and line of our innermost frame; never a path of this machine."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "/synthgen/" in f.filename]
    return f"{ours[-1].filename.rpartition('/synthgen/')[2]}:{ours[-1].lineno}" if ours else "an unknown place"
