"""What holds a command to its session's sandbox mode: the kernel, asked through bubblewrap or Landlock.

`mode` says what a mode allows, `choice` which backend works here, `launch` starts a command under one, and `denial`
tells a refusal of the sandbox from a command's own failure.
"""
