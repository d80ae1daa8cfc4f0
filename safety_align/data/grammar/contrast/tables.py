"""All contrast pairs, in a fixed order."""

from safety_align.data.grammar.contrast import (
    care,
    claims,
    contexts,
    facts,
    figures,
    health,
    people,
    persons,
    texts,
    things,
    words,
    works,
)

PAIRS = (
    *words.PAIRS,
    *figures.PAIRS,
    *things.PAIRS,
    *contexts.GAMES,
    *contexts.FICTION,
    *health.PAIRS,
    *facts.DEFINITIONS,
    *facts.HISTORY,
    *people.PRIVACY,
    *people.DISCRIMINATION,
    *care.PREVENTION,
    *care.OWN,
    *persons.PAIRS,
    *works.PAIRS,
    *claims.PAIRS,
    *texts.PAIRS,
)
