"""What the seal is made of: fixed point, masks, tags, the cipher that adds, and identities.

fixedpoint   numbers as exact integers modulo primes          masks   pairwise masks that cancel in the total only
tag          a check that only the true total passes          he      BFV, which hides the totals from whoever adds them
identity     who signs, who can read                        seal    all of it together

Import the files by name. `he` opens its heavy library only when it first encrypts or decrypts.
"""
