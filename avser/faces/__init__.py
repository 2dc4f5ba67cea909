"""The faces in a video: found, followed from frame to frame, cut out alike, chosen.

`FaceCollector` is the whole of it; the rest is for those who bring a detector of their own.
Nothing heavy is loaded before the first picture is looked at.
"""

from avser.faces.collect import DETECT_HEIGHT as DETECT_HEIGHT
from avser.faces.collect import FACES_PER_STEP as FACES_PER_STEP
from avser.faces.collect import FaceCollector as FaceCollector
from avser.faces.collect import sample_times as sample_times
from avser.faces.crop import align as align
from avser.faces.detect import Detection as Detection
from avser.faces.detect import FaceDetector as FaceDetector
from avser.faces.detect import MtcnnDetector as MtcnnDetector
from avser.faces.detect import YuNetDetector as YuNetDetector
from avser.faces.found import Faces as Faces
from avser.faces.found import FaceTrack as FaceTrack
from avser.faces.track import Tracker as Tracker
