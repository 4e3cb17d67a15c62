import sys

from sleeplm_jax.cli import main

sys.exit(main())
