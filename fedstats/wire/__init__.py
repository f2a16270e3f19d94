"""What crosses the network, and in which order; no sockets here.

messages       what is sent                     conversation   one registry's side, round by round
analyst        the analyst's side               transcript     what all parties must agree on
roster         who takes part, and the rules    receipt        what a released result rests on

Import the files by name.
"""
