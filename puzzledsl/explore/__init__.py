"""`pzl explore`: a local page on which an engineer moves the requirements of a search and sees the answer change.

    statements                    the `require` statements of a search, and the numbers in them that a slider moves
    sheet, desk                   one search kept warm, and the file behind it
    views                         answers as HTML, drawn by the report's own strips and plots
    application, serving          the server: token, Host and Origin, routes, uvicorn

The answers come from the Python API (`Program.variations`). Nothing is written.
"""
