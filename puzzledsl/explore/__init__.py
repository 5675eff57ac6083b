"""`pzl explore`: a local page on which an engineer moves the requirements of a search and sees the answer change.

    sheet                         one search with its tables in memory: `require` statements, and the numbers that sliders move
    desk                          the program file behind the page
    views                         answers as HTML, drawn by the report's own strips and plots
    application, serving          the server: token, Host and Origin, routes, uvicorn

The answers come from the Python API (`Program.variations`). Nothing is written.
"""
