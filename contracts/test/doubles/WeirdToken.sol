// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @notice One ERC-20 with the oddities that real tokens have, each of which can be switched on.
contract WeirdToken {
    uint8 public decimals = 18;
    uint256 public feeBps;
    bool public noReturn;
    bool public falseReturn;
    bool public revertOnZero;
    mapping(address => bool) public isBlocked;
    /// @dev Called during every transfer, before the balances move.
    address public hook;
    bytes public hookData;
    bool public hookSucceeded;
    bytes public hookAnswer;
    int256 public driftPerTransfer;

    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function setDecimals(uint8 value) external {
        decimals = value;
    }

    function setFee(uint256 bps) external {
        feeBps = bps;
    }

    function setNoReturn(bool value) external {
        noReturn = value;
    }

    function setFalseReturn(bool value) external {
        falseReturn = value;
    }

    function setRevertOnZero(bool value) external {
        revertOnZero = value;
    }

    function setBlocked(address account, bool value) external {
        isBlocked[account] = value;
    }

    function setDrift(int256 value) external {
        driftPerTransfer = value;
    }

    function setHook(address target, bytes calldata data) external {
        hook = target;
        hookData = data;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
        _answer();
    }

    function transferFrom(address from, address to, uint256 amount) external {
        require(allowance[from][msg.sender] >= amount, "allowance");
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
        _answer();
    }

    function _move(address from, address to, uint256 amount) private {
        require(!revertOnZero || amount != 0, "zero");
        require(!isBlocked[from] && !isBlocked[to], "blocked");
        if (hook != address(0)) {
            (hookSucceeded, hookAnswer) = hook.call(hookData);
        }
        if (falseReturn) return;
        balanceOf[from] -= amount;
        balanceOf[to] += amount - amount * feeBps / 10_000;
        if (driftPerTransfer > 0) balanceOf[to] += uint256(driftPerTransfer);
        if (driftPerTransfer < 0) balanceOf[to] -= uint256(-driftPerTransfer);
    }

    /// @dev Returns what the oddity says: nothing, false, or true.
    function _answer() private view {
        if (noReturn) {
            assembly ("memory-safe") {
                return(0, 0)
            }
        }
        bool value = !falseReturn;
        assembly ("memory-safe") {
            mstore(0, value)
            return(0, 32)
        }
    }
}
