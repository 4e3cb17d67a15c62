"""What evaluation reads: untrusted channels are no input, epochs with clean EEG are known."""

import numpy as np

from sleeplm_jax.config import CAPTION_KINDS, SLEEPLM_CHANNELS, SignalSpec
from sleeplm_jax.evaluation.epochs import clean_epochs, read
from sleeplm_jax.recordings.night import artefact_bits

C3, C4, EMG, POS = (SLEEPLM_CHANNELS.index(name) for name in ("C3", "C4", "EMG", "POS"))


def marked(rows, channels, **bits):
    found = np.zeros((rows, len(channels)), np.uint8)
    for channel, names in bits.items():
        found[0, channels.index(channel)] = artefact_bits(names)
    return found


def test_an_artefact_in_any_eeg_channel_makes_an_epoch_unclean():
    spec, mask = SignalSpec(), np.ones((2, 10), bool)
    for channel in ("C3", "C4"):
        found = clean_epochs(marked(2, spec.channels, **{channel: ("movement",)}), mask, spec)
        assert found.tolist() == [False, True]
    for bits in ({"C3": ("mains", "ecg")}, {"EMG": ("movement",)}):
        assert clean_epochs(marked(2, spec.channels, **bits), mask, spec).all()


def test_an_absent_channel_spoils_nothing_and_no_eeg_is_not_clean():
    spec, mask = SignalSpec(), np.ones((2, 10), bool)
    mask[0, C3] = False
    assert clean_epochs(marked(2, spec.channels, C3=("flat",)), mask, spec).all()
    mask[0, C4] = False
    assert clean_epochs(marked(2, spec.channels), mask, spec).tolist() == [False, True]


def test_the_eog_stands_where_a_spec_has_no_eeg():
    spec = SignalSpec(channels=("ECG", "EOG-L"))
    found = clean_epochs(
        marked(2, spec.channels, **{"EOG-L": ("pop",)}), np.ones((2, 2), bool), spec
    )
    assert found.tolist() == [False, True]
    only = SignalSpec(channels=("ECG",))
    assert clean_epochs(marked(1, ("ECG",), ECG=("flat",)), np.ones((1, 1), bool), only).all()


class Marked:
    def __init__(self, source, bits):
        self.source, self.bits = source, bits

    def __getitem__(self, index):
        return self.source[index] | {"artefact": self.bits}


def test_untrusted_channels_are_taken_out_of_signal_and_mask(corpus):
    bits = marked(1, SLEEPLM_CHANNELS, C3=("lead_off",), EMG=("movement",), POS=("dropout",))[0]
    source = Marked(corpus.source("test"), bits)
    rows = np.arange(6)
    plain = read(source, corpus.spec, rows)
    found = read(source, corpus.spec, rows, ("lead_off", "dropout"))
    assert not found.mask[:, [C3, POS]].any() and not found.signal[:, C3].any()
    assert (found.signal[:, POS] == -1).all()
    others = [c for c in range(10) if c not in (C3, POS)]
    np.testing.assert_array_equal(found.signal[:, others], plain.signal[:, others])
    np.testing.assert_array_equal(found.mask[:, others], plain.mask[:, others])
    assert found.mask[:, EMG].all() and not found.clean.any()
    assert found.keys.shape == (6, len(CAPTION_KINDS))
