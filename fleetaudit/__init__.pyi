from fleetaudit.library import AuditReport as AuditReport
from fleetaudit.library import Observer as Observer
from fleetaudit.library import Options as Options
from fleetaudit.library import Outcomes as Outcomes
from fleetaudit.library import audit as audit
from fleetaudit.library import collect as collect
from fleetaudit.library import evaluate as evaluate

__all__ = ["AuditReport", "Observer", "Options", "Outcomes", "__version__", "audit", "collect", "evaluate"]

__version__: str
