"""`python -m flows.cli`: the command `narrate`."""

from flows.cli.main import program

if __name__ == "__main__":
    program()
