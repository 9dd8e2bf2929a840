from .errors import (
    DataError as DataError,
)
from .imagenet import (
    decision_matrix as decision_matrix,
    human_decisions as human_decisions,
    imagenet_16 as imagenet_16,
    imagenet_wnids as imagenet_wnids,
    nine as nine,
)
from .images import (
    Images as Images,
    masks as masks,
    subset as subset,
)
from .loading import (
    available as available,
    cue_conflict as cue_conflict,
    load as load,
    own as own,
    transfer as transfer,
)
