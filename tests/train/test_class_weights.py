"""Weights of the classes, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from imgpipe.common.errors import InputError
from imgpipe.train.sampling import CLASS_WEIGHTS, balanced_weights, given_weights

CLASSES = ["bird", "cat", "7"]
LABELS = np.array([0] * 6 + [1] * 3 + [2])


def test_none_is_no_weights_at_all() -> None:
    assert CLASS_WEIGHTS["none"](LABELS, CLASSES) is None


def test_balanced_is_scikit_learns() -> None:
    weights = balanced_weights(LABELS, CLASSES)
    assert weights.dtype == np.float32
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert weights.tolist() == pytest.approx(expected.tolist())


def test_given_weights_keep_their_ratios_and_have_a_mean_of_1_over_the_images() -> None:
    """cat 3, the unnamed bird 1 and 7 (a number in YAML) 5: their mean is (6 * 1 + 3 * 3 + 1 * 5) / 10 = 2."""
    weights = given_weights(LABELS, CLASSES, weights={"cat": 3, 7: 5.0})
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.5, 1.5, 2.5]
    assert weights[LABELS].mean() == 1


def test_a_name_that_is_no_class_is_refused() -> None:
    with pytest.raises(InputError) as refusal:
        given_weights(LABELS, CLASSES, weights={"dog": 3.0})
    assert str(refusal.value) == (
        "params.yaml: train.class_weights.given.weights names 'dog', which is no class; they are bird, cat and 7"
    )
