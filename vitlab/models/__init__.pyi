from .device import (
    best_device as best_device,
)
from .hub import (
    load as load,
)
from .hub import (
    load_all as load_all,
)
from .hub import (
    names as names,
)
from .hub import (
    record as record,
)
from .hub import (
    select as select,
)
from .identity import (
    fingerprint as fingerprint,
)
from .model import (
    MINI_CONFIG as MINI_CONFIG,
)
from .model import (
    Model as Model,
)
from .model import (
    ModelError as ModelError,
)
from .model import (
    check_device as check_device,
)
from .model import (
    device_name as device_name,
)
from .restrict import (
    each_token as each_token,
)
from .small import (
    ARCHITECTURES as ARCHITECTURES,
)
from .taxonomy import (
    as_trained as as_trained,
)
from .taxonomy import (
    by_group as by_group,
)
from .taxonomy import (
    group_of as group_of,
)
from .taxonomy import (
    is_vit as is_vit,
)
from .taxonomy import (
    token_names as token_names,
)
from .taxonomy import (
    why_undecided as why_undecided,
)
from .wrapping import (
    wrap as wrap,
)
from .zoos import (
    ZOO as ZOO,
)
from .zoos import (
    zoo as zoo,
)
