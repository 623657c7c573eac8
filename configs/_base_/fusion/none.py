# Control: no foundation encoder.
foundation = None
neck = None
