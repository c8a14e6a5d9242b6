"""The rules that drop records. A new rule is one decorated function in any module of this package."""

from importlib import import_module
from pkgutil import iter_modules

from medchatzh.curate.rules.registry import Case, Rule, Seen, all_rules, check_names, chosen, rule
from medchatzh.curate.rules.thresholds import GeneralRules, PoolRules

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

__all__ = ["Case", "GeneralRules", "PoolRules", "Rule", "Seen", "all_rules", "check_names", "chosen", "rule"]
