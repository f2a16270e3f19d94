"""Regression models, and what they share.

glm, cox, piecewise, ordinal, multinomial       one analysis each
newton         the rounds of a fit              coefficients   tables, intervals, tests
levelled       outcomes of several levels       model_cells, model_rules, weight_rules
                                                what must hold before coefficients are shown
"""
