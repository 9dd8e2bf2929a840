from .errors import (
    DataError as DataError,
)
from .imagenet import (
    decision_matrix as decision_matrix,
)
from .imagenet import (
    human_decisions as human_decisions,
)
from .imagenet import (
    imagenet_16 as imagenet_16,
)
from .imagenet import (
    imagenet_wnids as imagenet_wnids,
)
from .imagenet import (
    nine as nine,
)
from .images import (
    Images as Images,
)
from .images import (
    masks as masks,
)
from .images import (
    subset as subset,
)
from .loading import (
    available as available,
)
from .loading import (
    cue_conflict as cue_conflict,
)
from .loading import (
    load as load,
)
from .loading import (
    own as own,
)
from .loading import (
    transfer as transfer,
)
