"""Predictors that read what somebody else has predicted, one file a form: find.py says which form is read by which."""
