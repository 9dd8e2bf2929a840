from .device import (
    best_device as best_device,
)
from .hub import (
    load as load,
    load_all as load_all,
    names as names,
    record as record,
    select as select,
)
from .identity import (
    fingerprint as fingerprint,
)
from .model import (
    MINI_CONFIG as MINI_CONFIG,
    Model as Model,
    ModelError as ModelError,
    check_device as check_device,
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
    by_group as by_group,
    group_of as group_of,
    is_vit as is_vit,
    token_names as token_names,
    why_undecided as why_undecided,
)
from .wrapping import (
    wrap as wrap,
)
from .zoos import (
    ZOO as ZOO,
    zoo as zoo,
)
