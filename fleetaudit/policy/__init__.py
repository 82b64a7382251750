"""The policy language: values, matchers, assertions, evaluation. Pure."""
