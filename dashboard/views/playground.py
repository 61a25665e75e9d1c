from dashboard import frame, text

frame.header(text.PAGE_TITLES["playground"], "Nothing here is written to the log unless you ask for it.")
