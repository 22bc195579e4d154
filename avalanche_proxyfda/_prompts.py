"""The check of a prompt for a class name."""


def check_template(key: str, template: str, otherwise: str = "") -> None:
    """Refuse a prompt that a class name cannot be written into.

    Args:
        key: argument or key of the prompt, for the message.
        template: the prompt.
        otherwise: words on what else the key may hold.

    Raises:
        ValueError: if the prompt has not one ``{}``, or has another brace.
    """
    rest = template.replace("{}", "", 1)
    if rest == template or "{" in rest or "}" in rest:
        raise ValueError(
            f"{key}: the template {template!r} must hold {{}} once, in the place of the class "
            f"name, and no other brace{otherwise}"
        )
