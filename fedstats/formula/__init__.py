"""Model formulas: text -> terms -> columns of a design, and weights.

parser    y ~ age + ns(edss, df=3) -> terms     terms     terms -> columns, from the codebook
splines   their bases                           weights   of observations; inverse probability
"""


from .parser import Model, parse, parse_term, parse_terms

__all__ = ["Model", "parse", "parse_term", "parse_terms"]
