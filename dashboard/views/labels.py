from dashboard import frame, loaders, state, text

found = loaders.log_counts(state.current_filter())
frame.header(text.PAGE_TITLES["labels"], f"The period above holds {text.rows(found)}.")
if not found:
    frame.show_nothing_found()
