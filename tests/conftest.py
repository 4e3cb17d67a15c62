"""What all tests share. Fixtures of one room live in their own file and are named here."""

pytest_plugins = ["tests.fixtures_corpus"]
