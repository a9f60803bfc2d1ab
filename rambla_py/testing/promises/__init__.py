"""This package holds the tests of the contract suite, by what they are about."""
