"""The script that Streamlit runs for every page and every click: the frame, then the page."""

from dashboard import frame

frame.run()
