"""XML scorings, told apart by their root element; entities and external references refused."""

from __future__ import annotations

from sleeplm_jax.errors import RecordingError
from sleeplm_jax.recordings.scored import Reading, Scored
from sleeplm_jax.recordings.scoring_nsrr import nsrr
from sleeplm_jax.recordings.scoring_profusion import profusion

MAX_BYTES = 16 << 20  # its tree takes some thirty times that; a night's file some 0.3 MB
ROOTS = {"CMPStudyConfig": profusion, "PSGAnnotation": nsrr}


def read_xml(reading: Reading) -> Scored:
    """Profusion or NSRR scoring. Raises RecordingError for another XML, damage or entities."""
    path, root = reading.path, _parse(reading)
    parser = ROOTS.get(root.tag)
    if parser is None:
        raise RecordingError(
            path,
            f"is an XML of {str(root.tag)[:40]!r}, no scoring",
            "give a Profusion XML (CMPStudyConfig) or an NSRR XML (PSGAnnotation)",
        )
    return parser(root, reading)


def _parse(reading: Reading):
    import defusedxml
    from defusedxml.ElementTree import ParseError, parse

    path = reading.path
    if path.stat().st_size > MAX_BYTES:
        raise RecordingError(
            path, f"an XML of more than {MAX_BYTES >> 20} MiB", "give one night's scoring"
        )
    try:
        return parse(path, forbid_dtd=True).getroot()
    except (ParseError, defusedxml.DefusedXmlException, ValueError, LookupError, OSError) as error:
        raise RecordingError(
            path, f"not a readable XML ({type(error).__name__})", "export the scoring again"
        ) from None
