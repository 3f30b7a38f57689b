"""Changes of budgets: a model lowers one, only a person raises one."""

from flows.core.budget.amounts import Limits
from flows.core.budget.budgets import POOL, Budget, BudgetChange, Budgets
from flows.core.errors import ConfirmationRequired, InvalidArgument


def apply_change(change: BudgetChange, budgets: Budgets) -> Budgets:
    """The budgets after a change.

    Raises:
        ConfirmationRequired: It raises a budget, and no person agreed.
        InvalidArgument: Its scope is none.
    """
    scope = change.scope
    if scope != POOL and not scope.startswith("schedule:"):
        raise InvalidArgument(f"scope {scope!r} is none", "Give pool, or schedule:NAME")
    if change.notify_block is not None:
        budgets = budgets.model_copy(update={"notify_block": change.notify_block})
    if not (change.limits.are_set or change.removes):
        return budgets
    known = budgets.find(scope, change.period)
    before = known.limits if known else Limits()
    after = change.applied_to(before)
    if after.exceeds(before) and not change.may_raise:
        raise ConfirmationRequired(
            f"This raises the {change.period} budget of the {scope}, and nothing was changed",
            "Only a person raises one: `oumi-flows budget raise`",
        )
    return budgets.with_budget(Budget(scope=scope, period=change.period, limits=after))
