"""Camera frames as JPEG, for the journal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robots.errors import RobotError

QUALITY = 80


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """``picture`` (``[h, w, 3]``, RGB) compressed; raises RobotError where OpenCV is missing."""
    try:
        import cv2
    except ImportError as error:
        raise RobotError("pictures need OpenCV: pip install 'failure-aware-rl[robot]'") from error
    _, encoded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(encoded.tobytes())
