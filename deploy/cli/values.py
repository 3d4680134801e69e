"""From words of a command line to values, without pydantic, which Typer would load for the first of them.

Typer keeps one converter in each parameter and makes it when it is first needed: ours is there before.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_origin

from typer import BadParameter
from typer._click import Context
from typer._click.core import Command, Parameter
from typer._coercion import RuntimeParam
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

NAMES = {int: "a whole number", float: "a number"}


class _Value(RuntimeParam):
    """Converts to the kinds of values that commands here take: texts, numbers in a range, paths, days, lists, pairs."""

    def _coerce_value(self, value: Any, param: Any, ctx: Context) -> Any:
        try:
            return self._convert(value, self.annotation)
        except ValueError as error:
            raise BadParameter(str(error), ctx=ctx, param=param) from None

    def _convert(self, value: Any, kind: Any) -> Any:
        if get_origin(kind) in (list, tuple):
            kinds = get_args(kind)
            made = [self._convert(one, kinds[index if len(kinds) > 1 else 0]) for index, one in enumerate(value)]
            return get_origin(kind)(made)
        if isinstance(value, kind):
            return self._within(value) if kind in NAMES else value
        if kind in NAMES:
            try:
                return self._within(kind(value))
            except (ValueError, OverflowError):
                raise ValueError(f"'{value}' is not {NAMES[kind]}{self._range()}") from None
        if kind is datetime:
            try:
                return datetime.strptime(value, "%Y-%m-%d")  # noqa: DTZ007 - a day of UTC
            except ValueError:
                raise ValueError(f"'{value}' is not a day: write it as 2019-09-10") from None
        if kind not in (str, Path):
            raise TypeError(f"a command takes a {kind}, which no word is converted to")
        return kind(value)

    def _within(self, value: float) -> float:
        least, most = self.parameter_info.min, self.parameter_info.max
        if not (least is None or value >= least) or not (most is None or value <= most):
            raise ValueError
        return value

    def _range(self) -> str:
        least, most = self.parameter_info.min, self.parameter_info.max
        return f"{'' if least is None else f', {least} or more'}{'' if most is None else f', at most {most}'}"


class _PlainValues(Command):
    def get_params(self, ctx: Context) -> list[Parameter]:
        """All parameters, each with our converter."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if isinstance(parameter, TyperArgument | TyperOption) and parameter._runtime_param is None:
                descriptor = parameter.type_descriptor
                parameter._runtime_param = _Value(descriptor.parameter_info, descriptor.annotation)
        return parameters


class PlainCommand(_PlainValues, TyperCommand):
    """A command whose values are converted here."""


class PlainGroup(_PlainValues, TyperGroup):
    """A group whose own values are converted here."""
