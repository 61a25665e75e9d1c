"""The dashboard: a Streamlit app over the decision log. Imports ``router``, never the other way round."""
