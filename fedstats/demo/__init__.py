"""A whole federation on one machine, for looking and trying: `fedstats demo`.

story    the demonstration from beginning to end      study, model    its questions; its risk model
laptop   processes, keys and settings of all parties  tap, tamper     a wire that can be listened to and changed; what is done on it
page     the report
"""
