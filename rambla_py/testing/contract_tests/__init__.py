"""The tests of the contract suite, by subject."""
