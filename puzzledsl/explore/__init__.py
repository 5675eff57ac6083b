"""`pzl explore`: a local page on which an engineer moves the requirements of a search and sees the answer change.

    sheet                         one search kept warm: its `require` statements, and the numbers in them that a slider moves
    desk                          the file behind it
    views                         answers as HTML, drawn by the report's own strips and plots
    application, serving          the server: token, Host and Origin, routes, uvicorn

The answers come from the Python API (`Program.variations`). Nothing is written.
"""
