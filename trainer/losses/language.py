"""Next-token loss on all text: pretraining on documents and code, continued pretraining, whole conversations.

Here: that it is the answers' loss over rows in which all text carries loss.
Elsewhere: the loss and its weighting (sft.py), encoding all text as such (data/tokenise.py).
"""

from __future__ import annotations

from trainer.data.tokenise import Teaches
from trainer.losses.sft import SftLoss


class LanguageLoss(SftLoss):
    """Cross-entropy of every token of text; media's places carry none. A sample counts as one answer."""

    teaches: Teaches = "text"
